# SPDX-License-Identifier: MIT
# The core's public C API, as Cython sees it; the contract is core/include/slabmalloc.h.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "slabmalloc.h" nogil:
    ctypedef enum slabmalloc_status:
        SLABMALLOC_OK
        SLABMALLOC_OUT_OF_MEMORY
        SLABMALLOC_INVALID_LAYOUT
        SLABMALLOC_FREE_FOREIGN
        SLABMALLOC_FREE_WRONG_CLASS
        SLABMALLOC_FREE_INTERIOR
        SLABMALLOC_FREE_DOUBLE
        SLABMALLOC_PAGE_SIZE

    const char *slabmalloc_status_text(slabmalloc_status status)

    ctypedef struct slabmalloc_size_classes:
        uint32_t count, base_page_bytes, large_page_bytes, max_base_bytes
        uint32_t *sizes

    ctypedef struct slabmalloc_zone:
        pass

    ctypedef struct slabmalloc_zone_options:
        slabmalloc_size_classes classes
        bint unowned

    ctypedef struct slabmalloc_slot_info:
        void *page
        size_t page_bytes, object_bytes, slot_index, capacity
        void *object
        bint is_live

    ctypedef struct slabmalloc_class_stats:
        size_t object_bytes, page_bytes, capacity
        size_t empty_pages, partial_pages, full_pages, live_objects
        size_t live_bytes, free_bytes, metadata_bytes, tail_bytes, empty_bytes, mapped_bytes
        uint64_t remote_frees, late_double_frees, pages_taken, pages_returned

    slabmalloc_zone_options slabmalloc_zone_options_default()
    slabmalloc_zone *slabmalloc_zone_create(const slabmalloc_zone_options *options)
    void slabmalloc_zone_detach(slabmalloc_zone *zone, void (*give_back)(void *, void *, size_t, size_t) noexcept nogil, void *context)
    int slabmalloc_zone_class_of(const slabmalloc_zone *zone, size_t size, size_t align)
    const slabmalloc_size_classes *slabmalloc_zone_classes(const slabmalloc_zone *zone)
    void *slabmalloc_zone_allocate(slabmalloc_zone *zone, size_t size, size_t align)
    slabmalloc_status slabmalloc_zone_deallocate(slabmalloc_zone *zone, void *object, size_t size, size_t align)
    slabmalloc_status slabmalloc_zone_deallocate_owned(slabmalloc_zone *zone, void *object, size_t size, size_t align)
    size_t slabmalloc_zone_allocate_many(slabmalloc_zone *zone, size_t size, size_t align, void **objects, size_t count)
    slabmalloc_status slabmalloc_zone_deallocate_many(slabmalloc_zone *zone, void **objects, size_t count, size_t size, size_t align, size_t *bad_index)
    slabmalloc_status slabmalloc_zone_refill(slabmalloc_zone *zone, size_t size, size_t align, void *page, size_t page_bytes)
    slabmalloc_status slabmalloc_zone_restore(slabmalloc_zone *zone, void *page, size_t page_bytes)
    size_t slabmalloc_zone_reclaim(slabmalloc_zone *zone, int class_index, size_t page_bytes, size_t count, void (*give_back)(void *, void *, size_t) noexcept nogil, void *context)
    size_t slabmalloc_zone_collect(slabmalloc_zone *zone)
    slabmalloc_slot_info slabmalloc_zone_inspect(slabmalloc_zone *zone, const void *address)
    slabmalloc_class_stats slabmalloc_zone_stats(slabmalloc_zone *zone, int class_index)
    size_t slabmalloc_zone_bookkeeping_bytes(const slabmalloc_zone *zone)
    const char *slabmalloc_zone_audit(slabmalloc_zone *zone)

    void *slabmalloc_os_map(size_t bytes, size_t align, bint huge)
    void *slabmalloc_os_map_file(int fd, uint64_t offset, size_t bytes, size_t align)
    int slabmalloc_os_advise_huge(void *memory, size_t bytes)
    int slabmalloc_os_purge(void *memory, size_t bytes)
    void slabmalloc_os_unmap(void *memory, size_t bytes)

cdef extern from "dlpack.h":
    object dlpack_capsule(object owner, void *data, long long nbytes, bint is_versioned)
