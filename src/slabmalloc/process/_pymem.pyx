# SPDX-License-Identifier: MIT
# cython: language_level=3, freethreading_compatible=True
"""The binding of bindings/pymem.c (floor 4): conversion and errors, no policy. `slabmalloc.process` is the face.

It does not ask a free-threaded interpreter for its lock: `obj` and `mem` are refused there, and what is left of the
process is the preload library's, which any thread may ask at any time.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef extern from "heap/heap.h" nogil:
    enum:
        SPACE_CLASSES
    ctypedef struct space:
        pass
    ctypedef struct space_class_stats:
        size_t object_bytes
        size_t pages_bytes
        size_t live_objects
        size_t free_objects
    ctypedef struct space_stats:
        size_t live_objects
        size_t live_bytes
        size_t free_bytes
        size_t tail_bytes
        size_t mapped_bytes
        size_t peak_mapped_bytes
        size_t resting_bytes
        uint64_t given_back_bytes
        size_t reserved_bytes
        size_t bookkeeping_bytes
        uint64_t remote_frees
        size_t large_objects
        size_t large_bytes
        uint64_t large_reused
        size_t heaps
        size_t abandoned_heaps
        space_class_stats classes[128]
    space_stats space_statistics(space *s)

cdef extern from "process.h" nogil:
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
    ctypedef struct slabmalloc_process:
        const char *form
        const char *(*refusal)()
        const char *(*install)(unsigned mask)
        bint (*is_installed)(pymem_domain domain)
        pymem_counters (*count)(pymem_domain domain)
        bint (*count_malloc)(pymem_counters *counters)
        space *(*get_space)()
        size_t (*trim)()
        const char *(*audit)()
    const slabmalloc_process *process_find()

cdef extern from "resident.h" nogil:
    size_t read_resident_bytes "resident_bytes"()

cdef extern from "summary.h" nogil:
    enum:
        SUMMARY_BYTES
    size_t summary_render(char *text, const slabmalloc_process *process, double wall_seconds, bint as_json)

DOMAINS = ("obj", "mem")
"""In the order of `pymem_domain`."""

cdef const slabmalloc_process *process = process_find()

# What CPython is, and where its state lies, is looked up once: here, where there is one thread.
process.refusal()


def form():
    """"preload" or "in process": who serves, or would."""
    return process.form.decode()


def refusal():
    cdef const char *reason = process.refusal()
    return None if reason is NULL else reason.decode()


def install(domains):
    cdef unsigned mask = 0
    for name in domains:
        mask |= 1u << <unsigned>DOMAINS.index(name)
    cdef const char *reason = process.install(mask)
    if reason is not NULL:
        raise RuntimeError(reason.decode())


def counters():
    """Per domain its counts, and what the space holds; two empty dictionaries before anything is served."""
    # Everything is counted before the first object of the answer is made, so that the numbers fit each other.
    cdef pymem_counters rows[<int>PYMEM_DOMAINS]
    cdef pymem_counters of_malloc
    cdef space_stats total
    cdef bint has_space = process.get_space() is not NULL
    cdef bint has_malloc = has_space and process.count_malloc(&of_malloc)
    if has_space:
        total = space_statistics(process.get_space())
    for index in range(<int>PYMEM_DOMAINS):
        rows[index] = process.count(<pymem_domain>index)
    if not has_space:
        return {}, {}
    per_domain = {}
    for index in range(<int>PYMEM_DOMAINS):
        if process.is_installed(<pymem_domain>index):
            per_domain[DOMAINS[index]] = rows[index]
    if has_malloc:
        per_domain["malloc"] = of_malloc
    heap = dict(total)
    heap["classes"] = [dict(row) for row in total.classes[:SPACE_CLASSES] if row.object_bytes]
    return per_domain, heap


def resident_bytes():
    """The process's PSS; None if the kernel does not say."""
    cdef size_t resident
    with nogil:  # it takes as long as there is memory
        resident = read_resident_bytes()
    return resident or None


def summary(double wall_seconds, bint as_json):
    cdef char text[SUMMARY_BYTES]
    return text[:summary_render(text, process, wall_seconds, as_json)].decode()


def trim():
    return 0 if process.get_space() is NULL else process.trim()


def audit():
    cdef const char *broken = NULL
    if process.get_space() is not NULL:
        broken = process.audit()
    return None if broken is NULL else broken.decode()
