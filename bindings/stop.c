/* SPDX-License-Identifier: MIT
 *
 * One line, then abort(): see stop.h. Nothing here allocates, but the C stack, which is printed if it is asked for.
 */
#include "stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap/hardened.h"
#include "options.h"
#include "python_allocator.h"

#if defined(__has_include) && __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAS_BACKTRACE 1
#else
#define HAS_BACKTRACE 0 /* musl */
#endif

enum { TEXT_BYTES = 192, LINE_BYTES = 512, MOST_FRAMES = 64 };

/* ---- what is there ---------------------------------------------------------------------------------------- */

static const char *slab_state(const heap_place *place)
{
    return place->is_current                      ? "current"
           : place->live_count == place->capacity ? "full"
           : place->live_count == 0               ? "empty"
                                                  : "partial";
}

/* What holds the address, and its state. */
static void describe_object(char text[TEXT_BYTES], const char *name, size_t inside, const char *state)
{
    if (inside == 0)
        snprintf(text, TEXT_BYTES, "%s is %s", name, state);
    else
        snprintf(text, TEXT_BYTES, "%zu bytes into %s, which is %s", inside, name, state);
}

/* `was_free`: when the call looked; others may have taken the object since. */
static void describe(char text[TEXT_BYTES], const heap_place *place, size_t inside, bool was_free)
{
    const char *state = !place->is_live ? "already free" : was_free ? "live again" : "live";
    char name[64];
    snprintf(name, sizeof(name), "a large block of %zu bytes", place->object_bytes);
    switch (place->kind) {
    case HEAP_SLOT:
        snprintf(name, sizeof(name), "slot %zu of a %zu-byte slab", place->slot_index, place->object_bytes);
        describe_object(text, name, inside, state);
        return;
    case HEAP_TAIL: snprintf(text, TEXT_BYTES, "behind the last slot of a %zu-byte slab", place->object_bytes); return;
    case HEAP_PAGE_RESTING: snprintf(text, TEXT_BYTES, "on a page that has no slab now: it went back"); return;
    case HEAP_PAGE_PURGED: snprintf(text, TEXT_BYTES, "on a page that has no slab now, and no memory"); return;
    case HEAP_PAGE_UNUSED: snprintf(text, TEXT_BYTES, "in the heap's range, but on no slab"); return;
    case HEAP_LARGE:
    case HEAP_LARGE_RESTING: describe_object(text, name, inside, state); return;
    case HEAP_LARGE_GONE: describe_object(text, name, inside, "already free, and back at the system"); return;
    case HEAP_LARGE_MOVED: describe_object(text, name, inside, "elsewhere since a realloc"); return;
    case HEAP_NOWHERE: break;
    }
    snprintf(text, TEXT_BYTES, "not an address of the heap");
}

/* Of a hardened space: which byte was written that nobody had asked for; false: none is known. */
static bool describe_damage(char text[TEXT_BYTES], space *s, const void *object, const heap_place *place, bool is_freed)
{
    hardened_trace trace = hardened_trace_of(s, object, is_freed);
    char name[64];
    if (place->kind == HEAP_SLOT)
        snprintf(name, sizeof(name), "slot %zu of a %zu-byte slab", place->slot_index, place->object_bytes);
    else
        snprintf(name, sizeof(name), "a large block of %zu bytes", place->object_bytes);
    if (trace.is_before)
        snprintf(text, TEXT_BYTES, "what lies before it was written, below %s", name);
    if (trace.changed == SIZE_MAX)
        return trace.is_before;
    if (is_freed)
        snprintf(text, TEXT_BYTES, "byte %zu of %s was written", trace.changed, name);
    else if (trace.bytes == SIZE_MAX)
        snprintf(text, TEXT_BYTES, "what lies behind its at most %zu bytes was written, in %s", trace.changed, name);
    else
        snprintf(text, TEXT_BYTES, "byte %zu behind its %zu was written, in %s", trace.changed - trace.bytes + 1,
                 trace.bytes, name);
    return true;
}

/* How far inside the object that holds it. */
static size_t inside_of(const heap_place *place, const void *address)
{
    return place->object == NULL ? 0 : (size_t)((const char *)address - (const char *)place->object);
}

/* Is it an object that was there, and has been freed? */
static bool is_freed(const heap_place *place, size_t inside)
{
    bool is_freed_kind =
        place->kind == HEAP_SLOT || place->kind == HEAP_LARGE_RESTING || place->kind == HEAP_LARGE_GONE;
    return is_freed_kind && inside == 0 && !place->is_live;
}

/* ---- the line --------------------------------------------------------------------------------------------- */

static bool is_stack_wanted(void) { return HAS_BACKTRACE && options_is_on("SLABMALLOC_BACKTRACE"); }

static const char *ways_to_see_more(void)
{
    return python_allocator_get != NULL
               ? "; to see more set SLABMALLOC_BACKTRACE=1 (C stack) or PYTHONFAULTHANDLER=1 (Python stack)"
               : "; to see more set SLABMALLOC_BACKTRACE=1 (C stack), or run it in a debugger";
}

static void write_stack(void)
{
#if HAS_BACKTRACE
    void *frames[MOST_FRAMES];
    backtrace_symbols_fd(frames, backtrace(frames, MOST_FRAMES), STDERR_FILENO);
#endif
}

_Noreturn static void stop(const char *what, const void *address, const char *domain, const heap_place *place,
                           const char *text)
{
    char slab[96] = "", line[LINE_BYTES];
    if (place->kind == HEAP_SLOT || place->kind == HEAP_TAIL)
        snprintf(slab, sizeof(slab), "; the slab is %s, %zu of %zu slots live", slab_state(place), place->live_count,
                 place->capacity);
    int length = snprintf(line, sizeof(line), "slabmalloc: %s of %p (%s): %s%s%s\n", what, address, domain, text, slab,
                          ways_to_see_more());
    bool is_told = write(STDERR_FILENO, line, min_size((size_t)length, sizeof(line) - 1)) > 0;
    if (is_told && is_stack_wanted())
        write_stack();
    abort();
}

void stop_process(space *s, const char *call, slabmalloc_status status, const void *address, const char *domain)
{
    heap_place place = heap_inspect(s, address);
    bool was_free = status == SLABMALLOC_FREE_DOUBLE, is_free = strcmp(call, "free") == 0;
    char what[96];
    if (is_free && (was_free || is_freed(&place, inside_of(&place, address))))
        snprintf(what, sizeof(what), "double free");
    else if (status == SLABMALLOC_FREE_OVERFLOWN)
        snprintf(what, sizeof(what), "buffer overflow found at %s", call);
    else
        snprintf(what, sizeof(what), "invalid %s", call);
    char text[TEXT_BYTES];
    if (status != SLABMALLOC_FREE_OVERFLOWN || !describe_damage(text, s, address, &place, false))
        describe(text, &place, inside_of(&place, address), was_free);
    stop(what, address, domain, &place, text);
}

void stop_at_damage(space *s, const void *object)
{
    heap_place place = heap_inspect(s, object);
    char text[TEXT_BYTES];
    if (!describe_damage(text, s, object, &place, true))
        describe(text, &place, 0, false);
    stop("write after free", object, "heap", &place, text);
}

void stop_at_late_double_free(space *s, const void *object)
{
    stop_process(s, "free", SLABMALLOC_FREE_DOUBLE, object, "two threads at once");
}
