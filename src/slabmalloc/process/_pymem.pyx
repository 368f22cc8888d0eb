# SPDX-License-Identifier: MIT
# cython: language_level=3, freethreading_compatible=True, subinterpreters_compatible=own_gil
"""The binding of bindings/process.h (floor 4): conversion and errors, no policy. `slabmalloc.process` is the face.

What serves is the process's, and known to C alone: each interpreter of the process has a module of its own, whatever
its lock is. Nor is a free-threaded interpreter asked for its lock: `obj` and `mem` are refused there, and of what is
left any thread may ask at any time.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "heap/heap.h" nogil:
    enum:
        SPACE_CLASSES
    ctypedef struct space:
        pass
    ctypedef struct space_class_stats:
        size_t object_bytes
        size_t slabs
        size_t pages_bytes
        size_t resident_bytes
        size_t peak_pages_bytes
        size_t live_objects
        size_t free_objects
        uint64_t served_objects
        uint64_t remote_frees
    ctypedef struct space_stats:
        size_t live_objects
        size_t live_bytes
        size_t free_bytes
        size_t tail_bytes
        size_t mapped_bytes
        size_t heap_resident_bytes
        size_t peak_mapped_bytes
        size_t resting_bytes
        uint64_t given_back_bytes
        size_t reserved_bytes
        size_t bookkeeping_bytes
        uint64_t served_objects
        uint64_t remote_frees
        size_t large_objects
        size_t large_bytes
        size_t large_resting_bytes
        size_t large_resident_bytes
        size_t large_peak_bytes
        uint64_t large_served
        uint64_t large_reused
        size_t heaps
        size_t abandoned_heaps
        size_t huge_page_bytes
        const char *huge_pages
        bint is_hardened
        space_class_stats classes[128]
    space_stats space_statistics(space *s)
    void space_count_resident(space *s, space_stats *stats)
    bint heap_owns(space *s, const void *object)

cdef extern from "process.h" nogil:
    ctypedef enum process_domain:
        PROCESS_DOMAINS
    const char *process_domain_names[]
    ctypedef struct pymem_counters:
        uint64_t served_blocks
        uint64_t served_bytes
        uint64_t resized_blocks
        uint64_t freed_blocks
        uint64_t passed_blocks
        uint64_t passed_bytes
    ctypedef struct slabmalloc_process:
        const char *form
        const char *(*refusal)(process_domain domain)
        const char *(*install)(unsigned mask)
        bint (*count)(process_domain domain, pymem_counters *counters)
        space *(*get_space)()
        size_t (*trim)()
        const char *(*audit)()
    const slabmalloc_process *process_find()

cdef extern from "options.h" nogil:
    enum:
        OPTIONS_MESSAGE_BYTES
    ctypedef struct slabmalloc_size_classes:
        uint32_t count
        uint32_t sizes[255]
    bint options_read_classes(const char *text, slabmalloc_size_classes *classes, char *message)
    bint options_read_domains(const char *text, bint is_preload, unsigned *mask, char *message)
    bint options_is_valid(const char *name, const char *text, char *message)

cdef extern from "probe.h" nogil:
    process_domain probe_server(const slabmalloc_process *process, process_domain asked)
    const char *probe_malloc_file()

cdef extern from "resident.h" nogil:
    ctypedef struct resident_memory:
        size_t bytes
        size_t huge_bytes
    resident_memory resident_read()

cdef extern from "npymem.h":
    const char *npymem_refusal(object module)
    const char *npymem_install(object module)

cdef extern from "summary.h" nogil:
    enum:
        SUMMARY_BYTES
    ctypedef struct summary_figures:
        pymem_counters domains[5]
        bint is_served[5]
        space_stats space
        resident_memory resident
    size_t summary_render(char *text, const slabmalloc_process *process, double wall_seconds, bint as_json)
    size_t summary_render_tables(char *text, const summary_figures *figures)

DOMAINS = tuple([process_domain_names[index].decode() for index in range(<int>PROCESS_DOMAINS)])
"""In the order of `process_domain`."""


def form():
    """"preload" or "in process": who serves, or would."""
    return process_find().form.decode()


def refusal(name):
    """Why a domain can't be installed here, or None: of NumPy's data `refusal_of_numpy` knows more."""
    cdef const char *reason = process_find().refusal(<process_domain><int>DOMAINS.index(name))
    return None if reason is NULL else reason.decode()


def server(name):
    """Which domain of ours serves now what `name`, one of CPython's domains or malloc, is asked for; None: none does."""
    if name == "numpy":
        raise ValueError("NumPy's data is asked for in ways of its own, which its version knows")
    cdef int domain = probe_server(process_find(), <process_domain><int>DOMAINS.index(name))
    return None if domain == PROCESS_DOMAINS else DOMAINS[domain]


def malloc_file():
    """The file that has the name malloc before all others."""
    return probe_malloc_file().decode("utf-8", "replace")


def install(domains):
    """Installs domains of CPython. RuntimeError, with the reason: nothing was installed."""
    cdef unsigned mask = 0
    for name in domains:
        mask |= 1u << <unsigned>DOMAINS.index(name)
    cdef const char *reason = process_find().install(mask)
    if reason is not NULL:
        raise RuntimeError(reason.decode())


def refusal_of_numpy(module):
    """Why NumPy's data can't be served, or None; `module` is its `_multiarray_umath`."""
    cdef const char *reason = npymem_refusal(module)
    return None if reason is NULL else reason.decode()


def install_numpy(module):
    """Serves NumPy's data in the wrapper form. RuntimeError, with the reason: it is as it was."""
    cdef const char *reason = npymem_install(module)
    if reason is not NULL:
        raise RuntimeError(reason.decode())


def counters():
    """Per domain its counts, and what the space holds; two empty dictionaries before anything is served."""
    # Everything is counted before the first object of the answer is made, so that the numbers fit each other.
    cdef pymem_counters rows[<int>PROCESS_DOMAINS]
    cdef bint is_served[<int>PROCESS_DOMAINS]
    cdef space_stats total
    cdef int index
    cdef const slabmalloc_process *process = process_find()
    cdef space *whole = process.get_space()
    if whole is NULL:
        return {}, {}
    for index in range(<int>PROCESS_DOMAINS):
        is_served[index] = process.count(<process_domain>index, &rows[index])
    total = space_statistics(whole)
    with nogil:
        space_count_resident(whole, &total)
    per_domain = {DOMAINS[index]: rows[index] for index in range(<int>PROCESS_DOMAINS) if is_served[index]}
    heap = dict(total)
    heap["huge_pages"] = total.huge_pages.decode()
    heap["hardened"] = bool(heap.pop("is_hardened"))
    heap["classes"] = [dict(row) for row in total.classes[:SPACE_CLASSES] if row.object_bytes]
    return per_domain, heap


def resident():
    """Bytes resident, and those of them in huge pages; None twice where the kernel does not say."""
    cdef resident_memory memory
    with nogil:
        memory = resident_read()
    return (memory.bytes, memory.huge_bytes) if memory.bytes else (None, None)


def size_classes(str text):
    """The sizes that SLABMALLOC_CLASSES stands for; ValueError, with all that is allowed, if it stands for none."""
    cdef slabmalloc_size_classes classes
    cdef char message[OPTIONS_MESSAGE_BYTES]
    if not options_read_classes(text.encode("utf-8", "backslashreplace"), &classes, message):
        raise ValueError(message.decode("utf-8", "replace"))
    return tuple([classes.sizes[index] for index in range(classes.count)])


def named_domains(str text, bint is_preload):
    """The domains that SLABMALLOC_DOMAINS stands for; ValueError, with all that is allowed, if it stands for none."""
    cdef unsigned mask = 0
    cdef char message[OPTIONS_MESSAGE_BYTES]
    if not options_read_domains(text.encode("utf-8", "backslashreplace"), is_preload, &mask, message):
        raise ValueError(message.decode("utf-8", "replace"))
    return [name for index, name in enumerate(DOMAINS) if mask >> index & 1]


def why_not_used(str name, str text):
    """Why the text is no value of the variable SLABMALLOC_..., but of SLABMALLOC_DOMAINS; None: it is one."""
    cdef char message[OPTIONS_MESSAGE_BYTES]
    if options_is_valid(name.encode(), text.encode("utf-8", "backslashreplace"), message):
        return None
    return message.decode("utf-8", "replace")


def summary(double wall_seconds, bint as_json):
    cdef char text[SUMMARY_BYTES]
    return text[:summary_render(text, process_find(), wall_seconds, as_json)].decode()


def summary_tables(stats):
    """The tables of the summary for a `ProcessStats`, which another process may have made."""
    cdef char text[SUMMARY_BYTES]
    cdef summary_figures figures
    cdef int index
    memset(&figures, 0, sizeof(figures))
    for name, row in stats.domains.items():
        index = DOMAINS.index(name)
        figures.is_served[index] = True
        figures.domains[index] = row.to_dict()
    for index, row in enumerate(stats.classes[:SPACE_CLASSES]):
        figures.space.classes[index] = row.to_dict()
    figures.space.live_objects = stats.live_objects
    figures.space.live_bytes = stats.live_bytes
    figures.space.free_bytes = stats.free_bytes
    figures.space.tail_bytes = stats.tail_bytes
    figures.space.mapped_bytes = stats.mapped_bytes
    figures.space.heap_resident_bytes = stats.heap_resident_bytes
    figures.space.peak_mapped_bytes = stats.peak_mapped_bytes
    figures.space.resting_bytes = stats.resting_bytes
    figures.space.given_back_bytes = stats.given_back_bytes
    figures.space.served_objects = stats.served_objects
    figures.space.remote_frees = stats.remote_frees
    figures.space.large_objects = stats.large_objects
    figures.space.large_bytes = stats.large_bytes
    figures.space.large_resting_bytes = stats.large_resting_bytes
    figures.space.large_resident_bytes = stats.large_resident_bytes
    figures.space.large_peak_bytes = stats.large_peak_bytes
    figures.space.large_served = stats.large_served
    figures.space.large_reused = stats.large_reused
    figures.space.is_hardened = stats.hardened
    figures.resident = resident_memory(stats.resident_bytes or 0, stats.resident_huge_bytes or 0)
    return text[:summary_render_tables(text, &figures)].decode()


def owns(size_t address):
    """Does the address lie in a range of the heap, or begin a large block of it?"""
    cdef space *s = process_find().get_space()
    return s is not NULL and heap_owns(s, <const void *>address)


def trim():
    cdef const slabmalloc_process *process = process_find()
    return 0 if process.get_space() is NULL else process.trim()


def audit():
    cdef const slabmalloc_process *process = process_find()
    cdef const char *broken = NULL
    if process.get_space() is not NULL:
        broken = process.audit()
    return None if broken is NULL else broken.decode()
