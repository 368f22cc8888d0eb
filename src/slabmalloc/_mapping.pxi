# SPDX-License-Identifier: MIT
# Memory of the operating system, from Python: part of _native.pyx (floor 5). The pagers make their pages over it.

cdef class Mapping:
    """Memory mapped from the system, writable, aligned as asked, with the buffer protocol; made by `anonymous` and `file`.

    >>> memory = Mapping.anonymous(8192, align=65536)
    >>> memory.address % 65536, len(memoryview(memory))
    (0, 8192)
    >>> memory.close()
    """

    cdef void *pointer
    cdef readonly size_t size
    cdef Py_ssize_t exports

    def __init__(self):
        raise TypeError("mappings are made by Mapping.anonymous and Mapping.file")

    @staticmethod
    def anonymous(size_t size, size_t align=4096, bint huge=False):
        """`size` bytes of private memory, zeroed; `align`: a power of two, at least 4096; `huge`: explicit huge pages.
        OSError if the system refuses."""
        return _mapping(slabmalloc_os_map(size, align, huge), size)

    @staticmethod
    def file(int fd, size_t size, size_t align=4096, uint64_t offset=0):
        """`size` bytes of the open file `fd` from `offset` on, shared and writable. OSError if the system refuses."""
        return _mapping(slabmalloc_os_map_file(fd, offset, size, align), size)

    def __dealloc__(self):
        if self.pointer is not NULL:
            slabmalloc_os_unmap(self.pointer, self.size)

    cdef void *open_at(self, size_t offset, size_t size) except NULL:
        if self.pointer is NULL:
            raise ValueError("this mapping is closed")
        if offset > self.size or size > self.size - offset:
            raise ValueError(f"{size} bytes from offset {offset} on are not within a mapping of {self.size} bytes")
        return <char *>self.pointer + offset

    @property
    def address(self):
        """Address of the first byte."""
        return <uintptr_t>self.open_at(0, 0)

    def purge(self, size_t offset, size_t size):
        """Drops the physical memory of `size` bytes from `offset` on; private memory reads as zero afterwards. Whole OS
        pages. OSError if the system refuses."""
        _raise_errno(slabmalloc_os_purge(self.open_at(offset, size), size))

    def advise_huge(self):
        """Asks for transparent huge pages. OSError if the system refuses."""
        _raise_errno(slabmalloc_os_advise_huge(self.open_at(0, self.size), self.size))

    def close(self):
        """Unmaps the memory; BufferError while something looks into it. Closing twice is fine."""
        if self.exports:
            raise BufferError(f"{self.exports} views still look into this mapping")
        if self.pointer is not NULL:
            slabmalloc_os_unmap(self.pointer, self.size)
            self.pointer = NULL

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.open_at(0, self.size), self.size, False, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1

    def __repr__(self):
        return f"<Mapping of {self.size} bytes{f' at {<uintptr_t>self.pointer:#x}' if self.pointer is not NULL else ', closed'}>"


cdef Mapping _mapping(void *pointer, size_t size):
    if pointer is NULL:
        PyErr_SetFromErrno(OSError)
    cdef Mapping mapping = Mapping.__new__(Mapping)
    mapping.pointer = pointer
    mapping.size = size
    return mapping


def _raise_errno(int number):
    if number:
        raise OSError(number, os.strerror(number))


def address_of(buffer):
    """Address of the first byte of a writable, contiguous buffer."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_CONTIG)
    address = <uintptr_t>view.buf
    PyBuffer_Release(&view)
    return address
