/* SPDX-License-Identifier: MIT
 *
 * The summary of a run. The JSON has the field names of `slabmalloc.stats()`, and keeps them; the text may change.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "summary.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>

#include "resident.h"

typedef struct text {
    char *bytes;
    size_t length;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    size_t room = SUMMARY_BYTES - t->length;
    int length = vsnprintf(t->bytes + t->length, room, format, values);
    va_end(values);
    t->length += min_size((size_t)(length < 0 ? 0 : length), room - 1);
}

/* 1234567 as "1,234,567", right-aligned. */
static void add_count(text *t, int width, uint64_t count)
{
    char digits[32], grouped[48];
    int length = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count), at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            grouped[at++] = ',';
        grouped[at++] = digits[i];
    }
    grouped[at] = '\0';
    add(t, "%*s", width, grouped);
}

static double mebibytes(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void add_python_version(text *t)
{
    const unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version");
    if (version != NULL)
        add(t, "%lu.%lu.%lu", *version >> 24, *version >> 16 & 0xFF, *version >> 8 & 0xFF);
}

/* A domain's counts, if it is served. */
typedef struct row {
    const char *name;
    pymem_counters counters;
} row;

static int rows_of(row *rows, const slabmalloc_process *process)
{
    int count = 0;
    for (int domain = 0; domain < PROCESS_DOMAINS; domain++) {
        rows[count].name = process_domain_names[domain];
        count += process->count((process_domain)domain, &rows[count].counters);
    }
    return count;
}

static void render_text(text *t, const row *rows, int count, const space_stats *stats, double wall_seconds)
{
    add(t, "slabmalloc: %.2f s on Python ", wall_seconds);
    add_python_version(t);
    add(t, "\n  domain            served                    passed on                         freed\n");
    for (int i = 0; i < count; i++) {
        const pymem_counters *c = &rows[i].counters;
        add(t, "  %-8s", rows[i].name);
        add_count(t, 16, c->served_blocks);
        add(t, "%10.1f MiB", mebibytes(c->served_bytes));
        add_count(t, 15, c->passed_blocks);
        add(t, "%10.1f MiB", mebibytes(c->passed_bytes));
        add_count(t, 16, c->freed_blocks);
        add(t, "\n");
    }
    add(t, "  heap     live %.1f MiB in ", mebibytes(stats->live_bytes));
    add_count(t, 0, stats->live_objects);
    add(t, " blocks, mapped %.1f MiB, peak %.1f MiB, given back %.1f MiB%s\n", mebibytes(stats->mapped_bytes),
        mebibytes(stats->peak_mapped_bytes), mebibytes(stats->given_back_bytes),
        stats->is_hardened ? ", hardened" : "");
    resident_memory resident = resident_read();
    if (resident.bytes != 0)
        add(t, "  process  %.1f MiB resident (PSS)", mebibytes(resident.bytes));
    if (resident.huge_bytes != 0)
        add(t, ", %.1f MiB of it in huge pages", mebibytes(resident.huge_bytes));
    if (resident.bytes != 0)
        add(t, "\n");
}

static void add_field(text *t, const char *name, uint64_t value)
{
    add(t, ", \"%s\": %llu", name, (unsigned long long)value);
}

static void add_resident(text *t)
{
    resident_memory resident = resident_read();
    if (resident.bytes != 0) {
        add_field(t, "resident_bytes", resident.bytes);
        add_field(t, "resident_huge_bytes", resident.huge_bytes);
    } else {
        add(t, ", \"resident_bytes\": null, \"resident_huge_bytes\": null");
    }
}

static void render_json_domain(text *t, const row *r)
{
    const pymem_counters *c = &r->counters;
    add(t, "\"%s\": {\"served_blocks\": %llu", r->name, (unsigned long long)c->served_blocks);
    add_field(t, "served_bytes", c->served_bytes);
    add_field(t, "resized_blocks", c->resized_blocks);
    add_field(t, "freed_blocks", c->freed_blocks);
    add_field(t, "passed_blocks", c->passed_blocks);
    add_field(t, "passed_bytes", c->passed_bytes);
    add(t, "}");
}

static void render_json_classes(text *t, const space_stats *stats)
{
    const char *comma = "";
    add(t, ", \"classes\": [");
    for (int i = 0; i < SPACE_CLASSES; i++) {
        const space_class_stats *c = &stats->classes[i];
        if (c->object_bytes == 0)
            continue;
        add(t, "%s{\"object_bytes\": %zu", comma, c->object_bytes);
        add_field(t, "pages_bytes", c->pages_bytes);
        add_field(t, "live_objects", c->live_objects);
        add_field(t, "free_objects", c->free_objects);
        add(t, "}");
        comma = ", ";
    }
    add(t, "]");
}

static void render_json(text *t, const row *rows, int count, const space_stats *stats, double wall_seconds,
                        const char *form)
{
    add(t, "{\"wall_seconds\": %.6f, \"python\": \"", wall_seconds);
    add_python_version(t);
    add(t, "\", \"form\": \"%s\", \"domains\": {", form);
    for (int i = 0; i < count; i++) {
        add(t, i > 0 ? ", " : "");
        render_json_domain(t, &rows[i]);
    }
    add(t, "}");
    add_field(t, "live_objects", stats->live_objects);
    add_field(t, "live_bytes", stats->live_bytes);
    add_field(t, "free_bytes", stats->free_bytes);
    add_field(t, "tail_bytes", stats->tail_bytes);
    add_field(t, "mapped_bytes", stats->mapped_bytes);
    add_field(t, "peak_mapped_bytes", stats->peak_mapped_bytes);
    add_field(t, "resting_bytes", stats->resting_bytes);
    add_field(t, "given_back_bytes", stats->given_back_bytes);
    add_field(t, "reserved_bytes", stats->reserved_bytes);
    add_field(t, "bookkeeping_bytes", stats->bookkeeping_bytes);
    add_field(t, "remote_frees", stats->remote_frees);
    add_field(t, "large_objects", stats->large_objects);
    add_field(t, "large_bytes", stats->large_bytes);
    add_field(t, "large_reused", stats->large_reused);
    add_field(t, "heaps", stats->heaps);
    add_field(t, "abandoned_heaps", stats->abandoned_heaps);
    add(t, ", \"huge_pages\": \"%s\"", stats->huge_pages == NULL ? "off" : stats->huge_pages);
    add_field(t, "huge_page_bytes", stats->huge_page_bytes);
    add(t, ", \"hardened\": %s", stats->is_hardened ? "true" : "false");
    add_resident(t);
    render_json_classes(t, stats);
    add(t, "}\n");
}

size_t summary_render(char *bytes, const slabmalloc_process *process, double wall_seconds, bool as_json)
{
    text t = {bytes, 0};
    row rows[PROCESS_DOMAINS];
    space_stats stats = {.live_objects = 0};
    /* Domains first: a block that comes in between would be in the space alone. */
    int count = rows_of(rows, process);
    if (process->get_space() != NULL)
        stats = space_statistics(process->get_space());
    if (as_json)
        render_json(&t, rows, count, &stats, wall_seconds, process->form);
    else
        render_text(&t, rows, count, &stats, wall_seconds);
    return t.length;
}
