/* SPDX-License-Identifier: MIT
 *
 * The summary of a run. The JSON has the field names of `slabmalloc.stats()`, and keeps them; the text may change.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "summary.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>

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

typedef struct number {
    char digits[32];
} number;

/* 1234567 as "1,234,567". */
static number grouped(uint64_t count)
{
    char digits[24];
    number n;
    int length = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count), at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            n.digits[at++] = ',';
        n.digits[at++] = digits[i];
    }
    n.digits[at] = '\0';
    return n;
}

static void add_count(text *t, int width, uint64_t count) { add(t, "%*s", width, grouped(count).digits); }

static double mebibytes(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void add_python_version(text *t)
{
    const unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version");
    if (version != NULL)
        add(t, "%lu.%lu.%lu", *version >> 24, *version >> 16 & 0xFF, *version >> 8 & 0xFF);
}

/* ---- text ------------------------------------------------------------------------------------------------- */

static void add_domains(text *t, const summary_figures *f)
{
    bool is_any = false;
    add(t, "  domain         served blocks  served MiB    freed blocks   passed blocks  passed MiB\n");
    for (int domain = 0; domain < PROCESS_DOMAINS; domain++) {
        const pymem_counters *c = &f->domains[domain];
        if (!f->is_served[domain])
            continue;
        add(t, "  %-12s", process_domain_names[domain]);
        add_count(t, 16, c->served_blocks);
        add(t, "%12.1f", mebibytes(c->served_bytes));
        add_count(t, 16, c->freed_blocks);
        add_count(t, 16, c->passed_blocks);
        add(t, "%12.1f\n", mebibytes(c->passed_bytes));
        is_any = true;
    }
    if (!is_any)
        add(t, "  none is served\n");
}

/* A line of the table of classes, or the sum of some. */
typedef struct class_line {
    size_t live_blocks, live_bytes, slabs, mapped_bytes, resident_bytes, peak_bytes;
    uint64_t served_blocks, remote_frees;
} class_line;

static class_line line_of(const space_class_stats *c)
{
    return (class_line){
        .live_blocks = c->live_objects,
        .live_bytes = c->live_objects * c->object_bytes,
        .slabs = c->slabs,
        .mapped_bytes = c->pages_bytes,
        .resident_bytes = c->resident_bytes,
        .peak_bytes = c->peak_pages_bytes,
        .served_blocks = c->served_objects,
        .remote_frees = c->remote_frees,
    };
}

static void add_line(class_line *sum, class_line line)
{
    sum->live_blocks += line.live_blocks;
    sum->live_bytes += line.live_bytes;
    sum->slabs += line.slabs;
    sum->mapped_bytes += line.mapped_bytes;
    sum->resident_bytes += line.resident_bytes;
    sum->served_blocks += line.served_blocks;
    sum->remote_frees += line.remote_frees;
}

/* 0: there is none. */
static void add_peak(text *t, size_t bytes)
{
    if (bytes == 0)
        add(t, "%10s", "-");
    else
        add(t, "%10.1f", mebibytes(bytes));
}

static void render_line(text *t, const char *name, class_line line)
{
    add(t, "  %-12s", name);
    add_count(t, 16, line.served_blocks);
    add_count(t, 14, line.live_blocks);
    add(t, "%12.1f", mebibytes(line.live_bytes));
    add_count(t, 9, line.slabs);
    add(t, "%12.1f%14.1f", mebibytes(line.mapped_bytes), mebibytes(line.resident_bytes));
    add_peak(t, line.peak_bytes);
    add_count(t, 14, line.remote_frees);
    add(t, "\n");
}

enum { CLASSES_SHOWN = 8 };

/* Did `a` hold more than `b`? What counts is what there was beyond a first slab, which is large for a few large
 * objects; at the end of a program little is live. */
static bool held_more(const space_class_stats *a, const space_class_stats *b)
{
    size_t first_of_a = a->object_bytes > HEAP_SMALL_BYTES ? HEAP_MEDIUM_PAGE_BYTES : HEAP_PAGE_BYTES;
    size_t first_of_b = b->object_bytes > HEAP_SMALL_BYTES ? HEAP_MEDIUM_PAGE_BYTES : HEAP_PAGE_BYTES;
    size_t more_of_a = a->peak_pages_bytes - min_size(first_of_a, a->peak_pages_bytes);
    size_t more_of_b = b->peak_pages_bytes - min_size(first_of_b, b->peak_pages_bytes);
    return more_of_a != more_of_b ? more_of_a > more_of_b : a->peak_pages_bytes > b->peak_pages_bytes;
}

/* Is it among the first that are shown, those that held the most? Of equals the smaller class comes first. */
static bool is_shown(const space_stats *stats, int at)
{
    int larger = 0;
    const space_class_stats *own = &stats->classes[at];
    for (int i = 0; i < SPACE_CLASSES; i++)
        larger += held_more(&stats->classes[i], own) || (i < at && !held_more(own, &stats->classes[i]));
    return larger < CLASSES_SHOWN;
}

/* Those that are not shown are one line, without a peak: each had its own at another time. Returns how many slabs there
 * are in all. */
static size_t add_slabs(text *t, const space_stats *stats)
{
    char name[48];
    int others = 0;
    size_t slabs = 0;
    class_line sum = {.live_blocks = 0};
    for (int i = 0; i < SPACE_CLASSES; i++) {
        const space_class_stats *c = &stats->classes[i];
        if (c->object_bytes == 0)
            continue;
        slabs += c->slabs;
        if (is_shown(stats, i)) {
            snprintf(name, sizeof(name), "%s B", grouped(c->object_bytes).digits);
            render_line(t, name, line_of(c));
        } else {
            add_line(&sum, line_of(c));
            others++;
        }
    }
    snprintf(name, sizeof(name), "%d others", others);
    if (others > 0)
        render_line(t, name, sum);
    return slabs;
}

static void add_classes(text *t, const space_stats *stats)
{
    add(t, "  class         served blocks   live blocks    live MiB    slabs  mapped MiB  resident MiB  peak MiB"
           "  remote frees\n");
    size_t slabs = add_slabs(t, stats);
    add(t, "  %-12s", "> 128 KiB");
    add_count(t, 16, stats->large_served);
    add_count(t, 14, stats->large_objects);
    add(t, "%12.1f%9s%12.1f%14.1f", mebibytes(stats->large_bytes), "-",
        mebibytes(stats->large_bytes + stats->large_resting_bytes), mebibytes(stats->large_resident_bytes));
    add_peak(t, stats->large_peak_bytes);
    add(t, "%14s\n  %-12s", "-", "all");
    add_count(t, 16, stats->served_objects);
    add_count(t, 14, stats->live_objects);
    add(t, "%12.1f", mebibytes(stats->live_bytes));
    add_count(t, 9, slabs);
    add(t, "%12.1f%14.1f", mebibytes(stats->mapped_bytes), mebibytes(stats->heap_resident_bytes));
    add_peak(t, stats->peak_mapped_bytes);
    add_count(t, 14, stats->remote_frees);
    add(t, "\n");
}

static void add_heap(text *t, const space_stats *stats)
{
    add(t, "  heap, bytes       live +          free +          tail +       resting =        mapped\n  now   ");
    add_count(t, 16, stats->live_bytes);
    add_count(t, 16, stats->free_bytes);
    add_count(t, 16, stats->tail_bytes);
    add_count(t, 16, stats->resting_bytes);
    add_count(t, 16, stats->mapped_bytes);
    add(t, "\n  so far   peak %.1f MiB mapped, given back %.1f MiB%s\n", mebibytes(stats->peak_mapped_bytes),
        mebibytes(stats->given_back_bytes), stats->is_hardened ? ", hardened" : "");
    add(t, "  cache    resting %.1f MiB, %.1f MiB of it in large blocks; ", mebibytes(stats->resting_bytes),
        mebibytes(stats->large_resting_bytes));
    add_count(t, 0, stats->large_reused);
    add(t, " large blocks were served from it\n");
}

static void add_process(text *t, const resident_memory *resident)
{
    if (resident->bytes == 0)
        return;
    add(t, "  process  %.1f MiB resident (PSS)", mebibytes(resident->bytes));
    if (resident->huge_bytes != 0)
        add(t, ", %.1f MiB of it in huge pages", mebibytes(resident->huge_bytes));
    add(t, "; OS pages that are mapped and were never touched take no memory\n");
}

static void add_tables(text *t, const summary_figures *f)
{
    add_domains(t, f);
    add_classes(t, &f->space);
    add_heap(t, &f->space);
    add_process(t, &f->resident);
}

static void render_text(text *t, const summary_figures *f, double wall_seconds, const char *form)
{
    add(t, "slabmalloc: %.2f s on Python ", wall_seconds);
    add_python_version(t);
    add(t, ", %s\n", form);
    add_tables(t, f);
}

/* ---- JSON ------------------------------------------------------------------------------------------------- */

static void add_field(text *t, const char *name, uint64_t value)
{
    add(t, ", \"%s\": %llu", name, (unsigned long long)value);
}

static void add_resident(text *t, const resident_memory *resident)
{
    if (resident->bytes != 0) {
        add_field(t, "resident_bytes", resident->bytes);
        add_field(t, "resident_huge_bytes", resident->huge_bytes);
    } else {
        add(t, ", \"resident_bytes\": null, \"resident_huge_bytes\": null");
    }
}

static void render_json_domain(text *t, const char *name, const pymem_counters *c)
{
    add(t, "\"%s\": {\"served_blocks\": %llu", name, (unsigned long long)c->served_blocks);
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
        add_field(t, "slabs", c->slabs);
        add_field(t, "pages_bytes", c->pages_bytes);
        add_field(t, "resident_bytes", c->resident_bytes);
        add_field(t, "peak_pages_bytes", c->peak_pages_bytes);
        add_field(t, "live_objects", c->live_objects);
        add_field(t, "free_objects", c->free_objects);
        add_field(t, "served_objects", c->served_objects);
        add_field(t, "remote_frees", c->remote_frees);
        add(t, "}");
        comma = ", ";
    }
    add(t, "]");
}

static void render_json(text *t, const summary_figures *f, double wall_seconds, const char *form)
{
    const space_stats *stats = &f->space;
    const char *comma = "";
    add(t, "{\"wall_seconds\": %.6f, \"python\": \"", wall_seconds);
    add_python_version(t);
    add(t, "\", \"form\": \"%s\", \"domains\": {", form);
    for (int domain = 0; domain < PROCESS_DOMAINS; domain++) {
        if (!f->is_served[domain])
            continue;
        add(t, "%s", comma);
        render_json_domain(t, process_domain_names[domain], &f->domains[domain]);
        comma = ", ";
    }
    add(t, "}");
    add_field(t, "live_objects", stats->live_objects);
    add_field(t, "live_bytes", stats->live_bytes);
    add_field(t, "free_bytes", stats->free_bytes);
    add_field(t, "tail_bytes", stats->tail_bytes);
    add_field(t, "mapped_bytes", stats->mapped_bytes);
    add_field(t, "heap_resident_bytes", stats->heap_resident_bytes);
    add_field(t, "peak_mapped_bytes", stats->peak_mapped_bytes);
    add_field(t, "resting_bytes", stats->resting_bytes);
    add_field(t, "given_back_bytes", stats->given_back_bytes);
    add_field(t, "reserved_bytes", stats->reserved_bytes);
    add_field(t, "bookkeeping_bytes", stats->bookkeeping_bytes);
    add_field(t, "served_objects", stats->served_objects);
    add_field(t, "remote_frees", stats->remote_frees);
    add_field(t, "large_objects", stats->large_objects);
    add_field(t, "large_bytes", stats->large_bytes);
    add_field(t, "large_resting_bytes", stats->large_resting_bytes);
    add_field(t, "large_resident_bytes", stats->large_resident_bytes);
    add_field(t, "large_peak_bytes", stats->large_peak_bytes);
    add_field(t, "large_served", stats->large_served);
    add_field(t, "large_reused", stats->large_reused);
    add_field(t, "heaps", stats->heaps);
    add_field(t, "abandoned_heaps", stats->abandoned_heaps);
    add(t, ", \"huge_pages\": \"%s\"", stats->huge_pages == NULL ? "off" : stats->huge_pages);
    add_field(t, "huge_page_bytes", stats->huge_page_bytes);
    add(t, ", \"hardened\": %s", stats->is_hardened ? "true" : "false");
    add_resident(t, &f->resident);
    render_json_classes(t, stats);
    add(t, "}\n");
}

/* ---- both ------------------------------------------------------------------------------------------------- */

static void read_figures(summary_figures *f, const slabmalloc_process *process)
{
    *f = (summary_figures){.resident = resident_read()};
    /* Domains first: a block that comes in between would be in the space alone. */
    for (int domain = 0; domain < PROCESS_DOMAINS; domain++)
        f->is_served[domain] = process->count((process_domain)domain, &f->domains[domain]);
    space *s = process->get_space();
    if (s == NULL)
        return;
    f->space = space_statistics(s);
    space_count_resident(s, &f->space);
}

size_t summary_render(char *bytes, const slabmalloc_process *process, double wall_seconds, bool as_json)
{
    text t = {bytes, 0};
    summary_figures figures;
    read_figures(&figures, process);
    if (as_json)
        render_json(&t, &figures, wall_seconds, process->form);
    else
        render_text(&t, &figures, wall_seconds, process->form);
    return t.length;
}

size_t summary_render_tables(char *bytes, const summary_figures *figures)
{
    text t = {bytes, 0};
    add_tables(&t, figures);
    return t.length;
}
