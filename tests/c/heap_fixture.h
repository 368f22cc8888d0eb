/* SPDX-License-Identifier: MIT
 *
 * What the tests of the process heap share: a heap that is there, and what must hold of it at any time.
 */
#ifndef HEAP_FIXTURE_H
#define HEAP_FIXTURE_H

#include "fixture.h"
#include "heap/heap.h"

enum { MIB = 1 << 20, RESERVE_LEAST = 64 * MIB };

static inline heap *heap_new(size_t reserve_bytes)
{
    heap *h = heap_create(reserve_bytes);
    REQUIRE(h != NULL);
    h->space->options.max_ranges = 1;
    return h;
}

static inline void check_heap(heap *h, size_t live_objects, const char *file, int line)
{
    const char *message = heap_audit(h);
    if (message != NULL && check_fail(file, line))
        printf("audit: %s\n", message);
    space_stats stats = space_statistics(h->space);
    check_equal(stats.live_objects, live_objects, file, line, "live_objects");
    check_equal(stats.live_bytes + stats.free_bytes + stats.tail_bytes + stats.resting_bytes, stats.mapped_bytes, file,
                line, "live + free + tail + resting bytes");
    check_true(stats.mapped_bytes <= stats.peak_mapped_bytes, file, line, "mapped_bytes <= peak_mapped_bytes");
    size_t large_bytes = stats.large_bytes + h->space->large.resting_bytes;
    check_equal((stats.mapped_bytes - large_bytes) % HEAP_PAGE_BYTES, 0, file, line, "bytes of pages % page");
}
#define CHECK_HEAP(h, live) check_heap((h), (live), __FILE__, __LINE__)

#endif
