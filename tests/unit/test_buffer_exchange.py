# SPDX-License-Identifier: MIT
"""Buffers in the hands of array libraries: DLPack capsules of both kinds, and NumPy's array interface.

The capsules are taken apart here as a consumer in C would do it, by the structures of DLPack 1.0.
"""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory, native

if TYPE_CHECKING:
    from types import ModuleType

numpy = pytest.importorskip("numpy")
needs_dlpack = pytest.mark.skipif(native is None, reason="the form in plain Python makes no capsules")


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("manager", ctypes.c_void_p), ("deleter", Deleter))


class Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


def _prototype(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


capsule_name = _prototype("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)
capsule_pointer = _prototype("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
rename_capsule = _prototype("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)

KINDS = {
    "unversioned": (None, b"dltensor", b"used_dltensor", Managed),
    "versioned": ((1, 0), b"dltensor_versioned", b"used_dltensor_versioned", Versioned),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture
def zone(memory: Memory) -> Any:
    assert native is not None
    return native.ZoneAllocator(memory)


def live(zone: Any) -> int:
    zone.audit()
    count: int = zone.stats().live_objects
    return count


@needs_dlpack
def test_the_device_is_the_cpu(zone: Any) -> None:
    assert zone.buffer(64).__dlpack_device__() == (1, 0)


@needs_dlpack
def test_from_dlpack_shares_writable_bytes(zone: Any) -> None:
    buffer = zone.buffer(64)
    array = numpy.from_dlpack(buffer)
    assert (array.dtype, array.shape, array.ctypes.data) == (numpy.dtype("u1"), (64,), buffer.address)
    memoryview(buffer)[:] = b"x" * 64
    assert bytes(array) == b"x" * 64
    if numpy.lib.NumpyVersion(numpy.__version__) >= "2.1.0":  # older ones ask for no version, so can't know
        array[3] = ord("y")
        assert bytes(memoryview(buffer)[:5]) == b"xxxyx"


@needs_dlpack
def test_a_dlpack_array_keeps_the_memory(zone: Any) -> None:
    buffer = zone.buffer(64)
    memoryview(buffer)[:] = b"k" * 64
    array = numpy.from_dlpack(buffer)
    with pytest.raises(BufferError):
        buffer.release()
    part = array[10:20]
    del buffer, array
    assert live(zone) == 1
    other = zone.buffer(64)
    memoryview(other)[:] = b"o" * 64
    assert bytes(part) == b"k" * 10
    del part
    assert live(zone) == 1
    other.release()
    assert live(zone) == 0


@needs_dlpack
def test_a_capsule_says_what_the_standard_wants(zone: Any, kind: Any) -> None:
    version, name, _, structure = kind
    buffer = zone.buffer(100)
    capsule = buffer.__dlpack__(max_version=version)
    assert capsule_name(capsule) == name
    managed = structure.from_address(capsule_pointer(capsule, name))
    tensor = managed.tensor
    assert tensor.data + tensor.byte_offset == buffer.address
    assert (tensor.device_type, tensor.device_id) == (1, 0)
    assert (tensor.code, tensor.bits, tensor.lanes) == (1, 8, 1)
    assert (tensor.ndim, tensor.shape[0]) == (1, 100)
    assert not tensor.strides or tensor.strides[0] == 1
    if structure is Versioned:
        assert managed.major == 1
        assert managed.flags & 1 == 0, "writable"


@needs_dlpack
@pytest.mark.parametrize(
    ("version", "name"),
    [(None, b"dltensor"), ((0, 8), b"dltensor"), ((1, 0), b"dltensor_versioned"), ((1, 1), b"dltensor_versioned"),
     ((2, 0), b"dltensor_versioned")],
)  # fmt: skip
def test_the_consumer_chooses_the_kind(zone: Any, version: Any, name: bytes) -> None:
    assert capsule_name(zone.buffer(8).__dlpack__(max_version=version)) == name


@needs_dlpack
def test_a_capsule_that_nobody_takes_frees(zone: Any, kind: Any) -> None:
    buffer = zone.buffer(64)
    capsule = buffer.__dlpack__(max_version=kind[0])
    with pytest.raises(BufferError):
        buffer.release()
    del buffer
    assert live(zone) == 1
    del capsule
    assert live(zone) == 0


@needs_dlpack
def test_a_consumer_frees_by_the_deleter(zone: Any, kind: Any) -> None:
    version, name, used, structure = kind
    capsule = zone.buffer(64).__dlpack__(max_version=version)
    pointer = capsule_pointer(capsule, name)
    managed = structure.from_address(pointer)
    rename_capsule(capsule, used)
    del capsule  # a capsule that was taken frees nothing
    assert live(zone) == 1
    ctypes.memset(managed.tensor.data, 0x55, 64)
    managed.deleter(pointer)  # without the interpreter lock, as from a thread of the consumer
    assert live(zone) == 0


@needs_dlpack
def test_several_capsules_of_one_buffer(zone: Any) -> None:
    buffer = zone.buffer(64)
    capsules = [buffer.__dlpack__(max_version=version) for version in (None, (1, 0), None)]
    capsules.pop()
    with pytest.raises(BufferError):
        buffer.release()
    capsules.clear()
    buffer.release()
    assert live(zone) == 0


@needs_dlpack
@pytest.mark.parametrize(
    "arguments", [{"dl_device": (2, 0)}, {"dl_device": (1, 1)}, {"copy": True}, {"stream": 1}, {"stream": -1}]
)
def test_what_a_buffer_can_not_do(zone: Any, arguments: dict[str, Any]) -> None:
    buffer = zone.buffer(64)
    with pytest.raises(BufferError):
        buffer.__dlpack__(**arguments)
    buffer.release()  # nothing was exported
    assert live(zone) == 0


@needs_dlpack
@pytest.mark.parametrize(
    "arguments", [{"dl_device": (1, 0)}, {"dl_device": None}, {"copy": False}, {"copy": None}, {"stream": None}]
)
def test_what_a_buffer_can_do(zone: Any, arguments: dict[str, Any]) -> None:
    assert capsule_name(zone.buffer(64).__dlpack__(**arguments)) == b"dltensor"


@needs_dlpack
def test_a_released_buffer_has_no_capsule(zone: Any) -> None:
    buffer = zone.buffer(64)
    buffer.release()
    with pytest.raises(ValueError, match="this buffer is released"):
        buffer.__dlpack__()


@needs_dlpack
def test_a_capsule_keeps_the_zone(memory: Memory) -> None:
    assert native is not None
    capsule = native.ZoneAllocator(memory).buffer(64).__dlpack__()
    gc.collect()
    assert memory.pages_in_use == 1
    del capsule
    gc.collect()
    assert memory.pages_in_use == 0


# ---- the array interface -----------------------------------------------------------------------------------------


class Only:
    """Something that has the array interface of a buffer, and nothing else."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    @property
    def __array_interface__(self) -> Any:
        return self._buffer.__array_interface__


def test_the_interface_describes_writable_bytes(api: ModuleType, memory: Memory) -> None:
    buffer = api.ZoneAllocator(memory).buffer(40)
    interface = buffer.__array_interface__
    assert (interface["version"], interface["shape"], interface["typestr"]) == (3, (40,), "|u1")
    array = numpy.asarray(Only(buffer))
    assert (array.dtype, array.shape, array.ctypes.data) == (numpy.dtype("u1"), (40,), buffer.address)
    assert array.flags.writeable


def test_an_array_by_the_interface_keeps_the_memory(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    array = numpy.asarray(Only(zone.buffer(64)))
    array[:] = 9
    others = [numpy.asarray(Only(zone.buffer(64))) for _ in range(80)]
    for other in others:
        other[:] = 0
    assert array.tolist() == [9] * 64
    assert live(zone) == 81
    del array, others, other
    assert live(zone) == 0


def test_release_is_refused_while_the_address_is_out(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    buffer = zone.buffer(64)
    array = numpy.asarray(Only(buffer))
    with pytest.raises(BufferError):
        buffer.release()
    assert (live(zone), buffer.released) == (1, False)
    array[:] = 3
    assert array.sum() == 3 * 64
    del array, buffer
    assert live(zone) == 0


def test_the_end_of_with_is_refused_while_the_address_is_out(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    with pytest.raises(BufferError), zone.buffer(64) as buffer:
        array = numpy.asarray(Only(buffer))
    assert live(zone) == 1
    del array, buffer
    assert live(zone) == 0
