/* SPDX-License-Identifier: MIT
 *
 * slabmalloc: the public C API.
 *
 * A zone serves allocations of many sizes from pages that its client brings: one size-class allocator
 * (`slabmalloc_sc`) per size class, one slab per page, one bitmap per slab. The core never calls malloc;
 * its own bookkeeping comes from the operating system.
 *
 * Threads. A zone has one owner at a time: the thread that created it, or the one that adopted it last.
 * Functions marked [owner] may be called by the owner alone; those marked [any thread] by everyone, at any
 * time, concurrently with the owner. No function takes a lock.
 *
 * Failure. No function prints or aborts. A free that is not right changes nothing and says what was wrong.
 */
#ifndef SLABMALLOC_H
#define SLABMALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLABMALLOC_OBJECT_PAGE_BYTES ((size_t)4096)           /* page of the small classes, by default */
#define SLABMALLOC_LARGE_PAGE_BYTES ((size_t)2 * 1024 * 1024) /* page of the large classes, by default */
#define SLABMALLOC_MIN_PAGE_BYTES ((size_t)4096)
#define SLABMALLOC_MAX_PAGE_BYTES ((size_t)1 << 30)
#define SLABMALLOC_MAX_BASE_ALLOC_BYTES ((size_t)256)   /* largest object on an object page, by default */
#define SLABMALLOC_MAX_ALLOC_BYTES ((size_t)128 * 1024) /* largest object of the default classes */
#define SLABMALLOC_MAX_CLASSES 255
#define SLABMALLOC_GRANULE_BYTES 8 /* every class size is a multiple of this */

/* Every outcome that is not success is named by what the caller did. */
typedef enum slabmalloc_status {
    SLABMALLOC_OK = 0,
    SLABMALLOC_OUT_OF_MEMORY,    /* no free slot and no page; or bookkeeping memory refused by the system */
    SLABMALLOC_INVALID_LAYOUT,   /* size 0 or above the largest class; alignment not a power of two or unservable */
    SLABMALLOC_FREE_FOREIGN,     /* address is on no page of this zone */
    SLABMALLOC_FREE_WRONG_CLASS, /* address is on a page of another size class than the layout's */
    SLABMALLOC_FREE_INTERIOR,    /* address is between slots, or in the page's meta-data */
    SLABMALLOC_FREE_DOUBLE,      /* slot is already free */
    SLABMALLOC_PAGE_MISALIGNED,  /* page is not aligned to its size, or NULL */
    SLABMALLOC_PAGE_SIZE,        /* page size is not the one that the class or zone takes */
    SLABMALLOC_PAGE_IN_USE,      /* page (or memory it overlaps) is in this zone, or carries a slab of another one */
    SLABMALLOC_PAGE_UNREADABLE,  /* restore: no slab here, or its meta-data is torn */
    SLABMALLOC_PAGE_CLASS,       /* restore: the slab's object size or page size is not of this zone */
    SLABMALLOC_FREE_OVERFLOWN    /* what lies behind the object was written to: a hardened heap sees it */
} slabmalloc_status;

/* One English sentence fragment per status; never NULL. [any thread] */
const char *slabmalloc_status_text(slabmalloc_status status);

/* ---- size classes -------------------------------------------------------------------------------------- */

/* Which sizes there are, and on which of two kinds of page each lives. A plain value: copy it as you like. */
typedef struct slabmalloc_size_classes {
    uint32_t count;            /* number of classes, 1 ... SLABMALLOC_MAX_CLASSES */
    uint32_t base_page_bytes;  /* page of classes up to max_base_bytes */
    uint32_t large_page_bytes; /* page of the classes above */
    uint32_t max_base_bytes;
    uint32_t sizes[SLABMALLOC_MAX_CLASSES]; /* strictly ascending multiples of SLABMALLOC_GRANULE_BYTES */
} slabmalloc_size_classes;

/* The default: 8, then every 16 up to 128, then eight steps per doubling up to 128 KiB (at most 12.5 % internal
 * fragmentation above 128 bytes); sizes up to 256 on 4 KiB pages, larger ones on 2 MiB pages. */
slabmalloc_size_classes slabmalloc_size_classes_default(void);
/* 8, 16, 32 ... 128 KiB, as the seed has them; same pages as the default. */
slabmalloc_size_classes slabmalloc_size_classes_powers_of_two(void);
/* true if `classes` keeps the constraints above and each class fits at least once on its page. */
bool slabmalloc_size_classes_are_valid(const slabmalloc_size_classes *classes);

/* ---- pagers -------------------------------------------------------------------------------------------- */

/* Where pages come from and go to. `allocate` returns a writable block of `page_bytes`, aligned to `page_bytes`,
 * or NULL; both are called by the zone's owner only, never concurrently for one zone, and must not use that zone. */
typedef struct slabmalloc_pager {
    void *(*allocate)(void *context, size_t page_bytes);
    void (*release)(void *context, void *page, size_t page_bytes);
    void *context;
} slabmalloc_pager;

/* Pages of private anonymous memory, straight from the system, one mapping each (2 MiB pages) or carved from
 * chunks that are mapped once and reused (smaller ones). Thread-safe; holds the process's chunks for ever. */
slabmalloc_pager slabmalloc_pager_system(void);

/* ---- zones --------------------------------------------------------------------------------------------- */

typedef struct slabmalloc_zone slabmalloc_zone;
typedef struct slabmalloc_sc slabmalloc_sc; /* the size-class allocator of one class of a zone */

typedef struct slabmalloc_zone_options {
    slabmalloc_size_classes classes;
    const slabmalloc_pager *pager; /* copied; NULL: the client refills by hand */
    bool unowned;        /* no thread is the owner until slabmalloc_zone_adopt: every slabmalloc_zone_deallocate
                            is a remote free, and whoever holds the client's own lock uses the *_owned functions */
    bool metadata_apart; /* bitmaps beside the pages, not in them: pages are never written by the core */
    bool random_start;   /* each slab of up to 4,096 slots is first filled from a random one of its first 64 slots on */
    uint64_t seed;       /* for random_start */
    uint32_t guard_bytes; /* of metadata_apart: at the end of each page so many bytes hold no object and belong to the
                             pager, who may protect them; the zone's bookkeeping lies between guards of its own */
} slabmalloc_zone_options;

/* Default classes, no pager, owned by the calling thread, meta-data in the page, lowest slot first. */
slabmalloc_zone_options slabmalloc_zone_options_default(void);

/* A new zone, or NULL if `options->classes` is invalid, or too large for the guard, or the system refuses bookkeeping
 * memory. [any thread] */
slabmalloc_zone *slabmalloc_zone_create(const slabmalloc_zone_options *options);
/* Ends the zone. Every page goes back to the pager, whether it holds live objects or not, and its meta-data is wiped;
 * without a pager each page is only wiped. O(pages). [owner; no other thread may use the zone any more] */
void slabmalloc_zone_destroy(slabmalloc_zone *zone);
/* As destroy, but pages that hold live objects keep their meta-data (for slabmalloc_zone_restore), and `give_back`,
 * if not NULL, is called for each page instead of the pager; `live` says how many objects it still holds. */
void slabmalloc_zone_detach(slabmalloc_zone *zone,
                            void (*give_back)(void *context, void *page, size_t page_bytes, size_t live),
                            void *context);
/* The calling thread becomes the owner. The client orders this after the last use by the owner before. */
void slabmalloc_zone_adopt(slabmalloc_zone *zone);

/* Smallest class that serves (size, align): its index, or -1 for an invalid layout. O(1). [any thread] */
int slabmalloc_zone_class_of(const slabmalloc_zone *zone, size_t size, size_t align);
const slabmalloc_size_classes *slabmalloc_zone_classes(const slabmalloc_zone *zone);

/* One object of at least `size` bytes (1 ... largest class) aligned to `align` (a power of two up to the page size).
 * NULL: invalid layout (slabmalloc_zone_class_of says so) or out of memory. Contents are whatever was there before.
 * O(1), but for the pager. [owner] */
void *slabmalloc_zone_allocate(slabmalloc_zone *zone, size_t size, size_t align);
/* Gives back what allocate returned, with a layout of the same class. On an error nothing changes. O(1).
 * [any thread] By the owner it is an immediate free; by others a remote free, which the owner collects. */
slabmalloc_status slabmalloc_zone_deallocate(slabmalloc_zone *zone, void *object, size_t size, size_t align);
/* The same, for a caller who knows that it acts as owner (see `unowned`). [owner] */
slabmalloc_status slabmalloc_zone_deallocate_owned(slabmalloc_zone *zone, void *object, size_t size, size_t align);
/* Up to `count` objects into `objects`; returns how many there are now. Fewer than `count` means out of memory (or an
 * invalid layout: 0). Same order of addresses as that many calls of allocate. [owner] */
size_t slabmalloc_zone_allocate_many(slabmalloc_zone *zone, size_t size, size_t align, void **objects, size_t count);
/* Frees `objects[0 ... count)`. All or nothing: on an error nothing has changed and `*bad_index` (if not NULL) names
 * the first object at fault; an address that stands twice is a double free. [owner] */
slabmalloc_status slabmalloc_zone_deallocate_many(slabmalloc_zone *zone, void *const *objects, size_t count,
                                                  size_t size, size_t align, size_t *bad_index);

/* The zone takes `page` (page_bytes long, aligned to it, any contents but a live slab) for the class of (size, align).
 * The page stays the client's property; it comes back by reclaim, destroy or detach. [owner] */
slabmalloc_status slabmalloc_zone_refill(slabmalloc_zone *zone, size_t size, size_t align, void *page,
                                         size_t page_bytes);
/* The zone takes a page that still carries a slab (of an earlier zone with the same class: file, shared memory), with
 * its live objects and free slots. Everything in the page's meta-data is checked before it is believed. [owner] */
slabmalloc_status slabmalloc_zone_restore(slabmalloc_zone *zone, void *page, size_t page_bytes);
/* Up to `count` empty pages of exactly `page_bytes` leave the zone, each handed to `give_back` once (NULL: to the
 * zone's pager); returns how many. class_index < 0: of all classes. Collects remote frees first. O(classes + pages
 * moved). [owner] */
size_t slabmalloc_zone_reclaim(slabmalloc_zone *zone, int class_index, size_t page_bytes, size_t count,
                               void (*give_back)(void *context, void *page, size_t page_bytes), void *context);
/* Takes over all remote frees now; returns how many objects. [owner] */
size_t slabmalloc_zone_collect(slabmalloc_zone *zone);

/* What is at `address`? For messages and instruments; not a fast path. [owner] */
typedef struct slabmalloc_slot_info {
    void *page; /* NULL: address is on no page of this zone, and the rest is 0 */
    size_t page_bytes;
    size_t object_bytes; /* class size */
    size_t slot_index;   /* slot that holds the address (or capacity: tail or meta-data) */
    size_t capacity;
    void *object; /* start of that slot */
    bool is_live; /* slot is allocated and not freed remotely */
} slabmalloc_slot_info;
slabmalloc_slot_info slabmalloc_zone_inspect(slabmalloc_zone *zone, const void *address);

/* ---- one size class ------------------------------------------------------------------------------------ */

/* The allocator of class `class_index` of `zone`, for clients that know their class. Lives as long as the zone. */
slabmalloc_sc *slabmalloc_zone_sc(slabmalloc_zone *zone, int class_index);
void *slabmalloc_sc_allocate(slabmalloc_sc *sc);                                   /* [owner]; NULL: out of memory */
slabmalloc_status slabmalloc_sc_deallocate(slabmalloc_sc *sc, void *object);       /* [any thread] */
slabmalloc_status slabmalloc_sc_deallocate_owned(slabmalloc_sc *sc, void *object); /* [owner] */
size_t slabmalloc_sc_objects_per_page(const slabmalloc_sc *sc);

/* ---- statistics and audit ------------------------------------------------------------------------------ */

/* Conservation, to the byte: live + free + metadata + tail + empty = mapped, where
 *   live     = live objects x object size              free  = free slots of pages that hold a live object x object
 * size metadata = bitmaps and trailer in those pages      tail  = rest of those pages empty    = whole pages without a
 * live object       mapped = pages taken - pages given back, by its own count */
typedef struct slabmalloc_class_stats {
    size_t object_bytes, page_bytes, capacity; /* capacity: objects per page */
    size_t empty_pages, partial_pages, full_pages;
    size_t live_objects;
    size_t live_bytes, free_bytes, metadata_bytes, tail_bytes, empty_bytes, mapped_bytes;
    uint64_t remote_frees;                /* objects collected so far */
    uint64_t late_double_frees;           /* of those, freed by two threads at the same time: seen only then */
    uint64_t pages_taken, pages_returned; /* so far */
} slabmalloc_class_stats;

/* Statistics of one class (class_index < 0: the sum; its object_bytes, page_bytes and capacity are 0).
 * Collects remote frees first. O(pages + bitmap words). [owner] */
slabmalloc_class_stats slabmalloc_zone_stats(slabmalloc_zone *zone, int class_index);
/* Bytes of bookkeeping that the zone holds from the system, outside its pages. */
size_t slabmalloc_zone_bookkeeping_bytes(const slabmalloc_zone *zone);

/* Examines every invariant of the zone. NULL: all hold; else a message that names the first one broken (static
 * storage). O(pages + slots). [owner; remote frees may go on] */
const char *slabmalloc_zone_audit(slabmalloc_zone *zone);

/* ---- memory of the operating system (the pager room) ---------------------------------------------------- */

/* Anonymous private memory, `align` a power of two >= 4096; NULL with errno. huge: explicit huge pages (fails if there
 * are none). */
void *slabmalloc_os_map(size_t bytes, size_t align, bool huge);
/* `bytes` of file `fd` from `offset` on, shared and writable, at an address aligned to `align`; NULL with errno. */
void *slabmalloc_os_map_file(int fd, uint64_t offset, size_t bytes, size_t align);
/* Asks for transparent huge pages; 0 or errno. */
int slabmalloc_os_advise_huge(void *memory, size_t bytes);
/* Drops the physical memory of private anonymous memory, which reads as zero afterwards; 0 or errno. */
int slabmalloc_os_purge(void *memory, size_t bytes);
/* 0 or errno, which is kept: the system may refuse to cut a hole for want of room in its table of mappings. */
int slabmalloc_os_unmap(void *memory, size_t bytes);
/* Anonymous private memory of `old_bytes` gets `new_bytes`, in place or moved with its contents; NULL with errno:
 * unchanged. */
void *slabmalloc_os_remap(void *memory, size_t old_bytes, size_t new_bytes);

#ifdef __cplusplus
}
#endif
#endif
