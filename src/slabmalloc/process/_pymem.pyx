# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The binding of bindings/pymem.c (floor 4): conversion and errors, no policy. `slabmalloc.process` is the face."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef extern from "heap/heap.h" nogil:
    ctypedef struct heap:
        pass
    ctypedef struct heap_stats:
        size_t live_objects
        size_t live_bytes
        size_t mapped_bytes
        size_t peak_mapped_bytes
        size_t resting_bytes
        uint64_t given_back_bytes
        size_t reserved_bytes
        size_t bookkeeping_bytes
        uint64_t remote_frees
    heap_stats heap_statistics(heap *h)
    size_t heap_trim(heap *h)
    const char *heap_audit(heap *h)

cdef extern from "pymem.h" nogil:
    ctypedef enum pymem_domain:
        PYMEM_OBJ
        PYMEM_MEM
        PYMEM_DOMAINS
    ctypedef struct pymem_counters:
        uint64_t served_blocks
        uint64_t served_bytes
        uint64_t resized_blocks
        uint64_t freed_blocks
        uint64_t passed_blocks
        uint64_t passed_bytes
    const char *pymem_refusal()
    const char *pymem_install(unsigned mask)
    bint pymem_is_installed(pymem_domain domain)
    pymem_counters pymem_count(pymem_domain domain)
    heap *pymem_heap()

DOMAINS = ("obj", "mem")
"""In the order of `pymem_domain`."""


def refusal():
    cdef const char *reason = pymem_refusal()
    return None if reason is NULL else reason.decode()


def install(domains):
    cdef unsigned mask = 0
    for name in domains:
        mask |= 1u << <unsigned>DOMAINS.index(name)
    cdef const char *reason = pymem_install(mask)
    if reason is not NULL:
        raise RuntimeError(reason.decode())


def counters():
    # Everything is counted before the first object of the answer is made, so that the numbers fit each other.
    cdef pymem_counters rows[<int>PYMEM_DOMAINS]
    cdef heap_stats total
    cdef bint has_heap = pymem_heap() is not NULL
    if has_heap:
        total = heap_statistics(pymem_heap())
    for index in range(<int>PYMEM_DOMAINS):
        rows[index] = pymem_count(<pymem_domain>index)
    if not has_heap:
        return {}, {}
    per_domain = {}
    for index in range(<int>PYMEM_DOMAINS):
        if pymem_is_installed(<pymem_domain>index):
            per_domain[DOMAINS[index]] = rows[index]
    return per_domain, total


def trim():
    return 0 if pymem_heap() is NULL else heap_trim(pymem_heap())


def audit():
    cdef const char *broken = NULL
    if pymem_heap() is not NULL:
        broken = heap_audit(pymem_heap())
    return None if broken is NULL else broken.decode()
