/* SPDX-License-Identifier: MIT
 *
 * The process that fuzz_malloc.c plays on one thread, so that every run of an input is the same: threads that take
 * turns, a clock that goes on when it is told to, a system that refuses when it is told to, and an end that can be
 * survived. It stands in for bindings/threads.c and bindings/stop.c, and the core's system calls come here by their
 * names (tools/ci/fuzz.sh).
 */
#ifndef FUZZ_MALLOC_PROCESS_H
#define FUZZ_MALLOC_PROCESS_H

#include "check.h"
#include "heap/heap.h"

typedef enum system_call { CALL_MMAP, CALL_MUNMAP, CALL_MREMAP, CALL_MPROTECT, CALL_MADVISE, SYSTEM_CALLS } system_call;

enum { SEATS = 3 }; /* threads that keep a heap; one more is at its end and keeps none */

typedef struct malloc_process {
    space *space;
    uint64_t now_ns;
    unsigned refused;                      /* system calls that are refused now, a bit each */
    unsigned refusals_begin, refusals_end; /* of those calls, counted from the next one on */
    bool was_refused;                      /* since somebody set it to false */
    size_t mapped_bytes;                   /* addresses that the system has granted and not got back */
    bool kept_addresses;                   /* it would not take some back, or one can't know */
    bool kept_guards;                      /* it would not make memory of some again, or one can't know */
    unsigned seat;
    heap *heaps[SEATS]; /* of the threads whose turn it is not */
    uint64_t owners;    /* threads so far */
    size_t lost_heaps;
} malloc_process;

extern malloc_process process;

/* The addresses that the space before had are gone. */
void process_begin(const space_options *options);
void process_end(void);
/* The turn goes to the thread in `seat`; SEATS: one that is at its end. */
void process_turn(unsigned seat);
/* The thread ends, and another one comes to its seat; `silently`: without having abandoned its heap. */
void process_thread_ends(bool silently);
/* From here on the process is its own child, or is its parent. */
void process_forks(bool is_child);
/* Why `act` stopped the process, or NULL: it did not. */
const char *process_stop_of(void (*act)(void *block, size_t bytes), void *block, size_t bytes);

#endif
