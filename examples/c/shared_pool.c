/* SPDX-License-Identifier: MIT
 *
 * A pool of messages without malloc: the C API on its own. The memory is a static buffer; one thread makes messages,
 * two others use them up and free them, each without a lock. When the pool runs dry the maker gives it another page,
 * and when there is none left it waits for frees.
 *
 *     cc -std=c11 -O2 -Icore/include -Icore examples/c/shared_pool.c $(find core -name '*.c') -lpthread && ./a.out
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "slabmalloc.h"

enum { PAGE = SLABMALLOC_OBJECT_PAGE_BYTES, PAGES = 8, MESSAGES = 100000, READERS = 2, INBOX = 64 };

typedef struct message {
    unsigned number;
    char text[40];
} message;

typedef struct reader {
    slabmalloc_zone *zone;
    message *_Atomic inbox[INBOX]; /* NULL: nothing there */
    unsigned long long sum;
} reader;

static _Alignas(PAGE) char memory[PAGES][PAGE]; /* pages must be aligned to their size */
static int pages_used;

static void stop(const char *what)
{
    fprintf(stderr, "shared_pool: %s\n", what);
    exit(EXIT_FAILURE);
}

/* The pool's owner: allocates, refills on NULL, and makes do with what the readers free when the buffer is used up. */
static message *message_new(slabmalloc_zone *zone)
{
    for (;;) {
        message *m = slabmalloc_zone_allocate(zone, sizeof(message), _Alignof(message));
        if (m != NULL)
            return m;
        if (pages_used == PAGES) {
            sched_yield();
            continue;
        }
        slabmalloc_status status =
            slabmalloc_zone_refill(zone, sizeof(message), _Alignof(message), memory[pages_used++], PAGE);
        if (status != SLABMALLOC_OK)
            stop(slabmalloc_status_text(status));
    }
}

/* Any thread may free; message number 0 ends the reader. */
static void *read_messages(void *context)
{
    reader *r = context;
    for (size_t i = 0;; i = (i + 1) % INBOX) {
        message *m;
        while ((m = atomic_exchange_explicit(&r->inbox[i], NULL, memory_order_acquire)) == NULL)
            sched_yield();
        unsigned number = m->number;
        r->sum += number;
        slabmalloc_status status = slabmalloc_zone_deallocate(r->zone, m, sizeof *m, _Alignof(message));
        if (status != SLABMALLOC_OK)
            stop(slabmalloc_status_text(status));
        if (number == 0)
            return NULL;
    }
}

int main(void)
{
    slabmalloc_zone_options options = slabmalloc_zone_options_default();
    slabmalloc_zone *zone = slabmalloc_zone_create(&options);
    if (zone == NULL)
        stop("no memory for the zone's bookkeeping");

    static reader readers[READERS];
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i].zone = zone;
        if (pthread_create(&threads[i], NULL, read_messages, &readers[i]) != 0)
            stop("no thread");
    }
    size_t sent[READERS] = {0};
    for (unsigned n = MESSAGES + READERS; n-- > 0;) {
        reader *r = &readers[n % READERS];
        message *m = message_new(zone);
        m->number = n < READERS ? 0 : n;
        snprintf(m->text, sizeof m->text, "message %u", n);
        while (atomic_load_explicit(&r->inbox[sent[n % READERS] % INBOX], memory_order_relaxed) != NULL)
            sched_yield();
        atomic_store_explicit(&r->inbox[sent[n % READERS]++ % INBOX], m, memory_order_release);
    }
    unsigned long long sum = 0;
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        sum += readers[i].sum;
    }

    slabmalloc_class_stats s = slabmalloc_zone_stats(zone, -1); /* collects what the readers freed */
    printf("%d messages through %d pages of %d bytes, %llu of them freed by other threads\n", MESSAGES, pages_used,
           PAGE, (unsigned long long)s.remote_frees);
    printf("live %zu + free %zu + metadata %zu + tail %zu + empty %zu = mapped %zu bytes\n", s.live_bytes, s.free_bytes,
           s.metadata_bytes, s.tail_bytes, s.empty_bytes, s.mapped_bytes);
    const char *fault = slabmalloc_zone_audit(zone);
    if (fault != NULL)
        stop(fault);
    bool is_right = s.live_objects == 0 && s.remote_frees == MESSAGES + READERS &&
                    sum == (unsigned long long)(MESSAGES + READERS - 1) * (MESSAGES + READERS) / 2 - 1;
    slabmalloc_zone_destroy(zone);
    return is_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
