# SPDX-License-Identifier: MIT
"""Buffers: what looks into one, what is refused, and what release means, on both forms.

`zone.stats().live_objects` is the witness: it tells when the memory went back, neither earlier nor later.
"""

from __future__ import annotations

import gc
import io
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory
from slabmalloc import reference
from slabmalloc.errors import InvalidLayout, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def look(buffer: Any) -> memoryview:
    """The bytes of a buffer; classes in plain Python export buffers from CPython 3.12 on."""
    if sys.version_info < (3, 12) and isinstance(buffer, reference.Buffer):
        return buffer.memory
    return memoryview(buffer)


def live(zone: Any) -> int:
    zone.audit()
    count: int = zone.stats().live_objects
    return count


@pytest.fixture
def zone(api: ModuleType, memory: Memory) -> Iterator[Any]:
    zone = api.ZoneAllocator(memory)
    yield zone
    if not zone.closed:
        zone.audit()


# ---- the buffer protocol -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [1, 7, 64, 100, 257, 4096, 131072])
def test_a_buffer_is_writable_bytes(zone: Any, nbytes: int) -> None:
    buffer = zone.buffer(nbytes)
    view = look(buffer)
    assert (view.readonly, view.format, view.itemsize, view.ndim) == (False, "B", 1, 1)
    assert len(buffer) == buffer.nbytes == len(view) == view.nbytes == nbytes
    assert view.c_contiguous
    view[:] = bytes(index % 251 for index in range(nbytes))
    assert bytes(look(buffer)) == bytes(index % 251 for index in range(nbytes))
    with pytest.raises((IndexError, ValueError)):
        view[nbytes] = 0


@pytest.mark.parametrize("align", [1, 8, 16, 64, 256, 4096])
def test_address_and_alignment(zone: Any, align: int) -> None:
    from slabmalloc.pages import address_of

    buffers = [zone.buffer(24, align) for _ in range(5)]
    for buffer in buffers:
        assert buffer.address % align == 0
        assert address_of(look(buffer)) == buffer.address
    assert len({buffer.address for buffer in buffers}) == 5


def test_the_default_alignment_is_16(zone: Any) -> None:
    assert [zone.buffer(8).address % 16 for _ in range(3)] == [0, 0, 0]
    kept = [zone.buffer(8) for _ in range(3)]
    assert [buffer.address % 16 for buffer in kept] == [0, 0, 0]


def test_buffers_do_not_overlap(zone: Any) -> None:
    buffers = [zone.buffer(24) for _ in range(200)]
    for number, buffer in enumerate(buffers):
        look(buffer)[:] = bytes([number]) * 24
    assert all(bytes(look(buffer)) == bytes([number]) * 24 for number, buffer in enumerate(buffers))


def test_struct_packs_into_a_buffer(zone: Any) -> None:
    buffer = zone.buffer(12)
    struct.pack_into("<IQ", look(buffer), 0, 0xDEADBEEF, 42)
    assert struct.unpack_from("<IQ", look(buffer)) == (0xDEADBEEF, 42)
    with pytest.raises(struct.error):
        struct.pack_into("<IQ", look(buffer), 1, 0, 0)


def test_a_socket_reads_into_a_buffer(zone: Any) -> None:
    buffer = zone.buffer(5)
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"hello world")
        assert right.recv_into(look(buffer)) == 5
        right.sendall(look(buffer))
        assert left.recv(16) == b"hello"
    assert bytes(look(buffer)) == b"hello"


def test_a_file_reads_into_a_buffer(zone: Any) -> None:
    buffer = zone.buffer(6)
    assert io.BytesIO(b"abc").readinto(look(buffer)) == 3
    assert bytes(look(buffer))[:3] == b"abc"


def test_numpy_sees_a_buffer(zone: Any) -> None:
    numpy = pytest.importorskip("numpy")
    buffer = zone.buffer(64)
    array = numpy.frombuffer(look(buffer), "f8")
    array[:] = range(8)
    assert array.ctypes.data == buffer.address
    assert struct.unpack("8d", look(buffer)) == tuple(range(8))


@pytest.mark.parametrize("nbytes", [0, -1, 131073, 1 << 62, 1 << 63, 1 << 70])
def test_sizes_that_no_buffer_has(zone: Any, nbytes: int) -> None:
    with pytest.raises(InvalidLayout):
        zone.buffer(nbytes)
    assert live(zone) == 0


def test_a_buffer_too_large_names_the_largest_class(zone: Any) -> None:
    with pytest.raises(InvalidLayout, match="131072"):
        zone.buffer(131073)


@pytest.mark.parametrize("align", [0, -16, 3, 1 << 40, 1 << 70])
def test_alignments_that_no_buffer_has(zone: Any, align: int) -> None:
    with pytest.raises(InvalidLayout):
        zone.buffer(64, align)
    assert live(zone) == 0


def test_no_buffer_without_memory(api: ModuleType) -> None:
    zone = api.ZoneAllocator(Memory(limit=0))
    with pytest.raises(OutOfMemory):
        zone.buffer(64)
    zone.close()  # no buffer is counted that was never made


# ---- release -----------------------------------------------------------------------------------------------------


def test_release_frees_now(zone: Any) -> None:
    buffer = zone.buffer(64)
    address = buffer.address
    assert (live(zone), buffer.released) == (1, False)
    buffer.release()
    assert (live(zone), buffer.released) == (0, True)
    assert zone.buffer(64).address == address


def test_a_second_release_does_nothing(zone: Any) -> None:
    buffer = zone.buffer(64)
    buffer.release()
    other = zone.buffer(64)  # has the slot of the first
    buffer.release()
    del buffer
    assert live(zone) == 1
    other.release()


def test_a_released_buffer_refuses(zone: Any) -> None:
    buffer = zone.buffer(64)
    buffer.release()
    with pytest.raises(ValueError, match="this buffer is released"):
        look(buffer)
    with pytest.raises(ValueError, match="this buffer is released"):
        _ = buffer.address
    with pytest.raises(ValueError, match="this buffer is released"):
        _ = buffer.__array_interface__
    with pytest.raises(ValueError, match="this buffer is released"), buffer:
        pytest.fail("entered")
    assert "released" in repr(buffer)


def test_release_while_exported_changes_nothing(zone: Any) -> None:
    buffer = zone.buffer(5)
    view = look(buffer)
    view[:] = b"still"
    for _ in range(3):
        with pytest.raises(BufferError):
            buffer.release()
    assert not buffer.released
    assert live(zone) == 1
    assert bytes(view) == bytes(look(buffer)) == b"still"
    view[0] = ord("S")
    assert bytes(look(buffer)) == b"Still"
    view.release()
    buffer.release()
    assert (live(zone), buffer.released) == (0, True)


def test_with_releases_at_the_end(zone: Any) -> None:
    with zone.buffer(64) as buffer:
        assert live(zone) == 1
    assert (live(zone), buffer.released) == (0, True)


def test_with_releases_when_the_block_raises(zone: Any) -> None:
    with pytest.raises(KeyError), zone.buffer(64) as buffer:
        raise KeyError
    assert (live(zone), buffer.released) == (0, True)


def test_the_end_of_with_is_refused_while_exported(zone: Any) -> None:
    with pytest.raises(BufferError), zone.buffer(3) as buffer:
        view = look(buffer)
    view[:] = b"abc"
    assert bytes(look(buffer)) == b"abc"
    del view, buffer
    gc.collect()
    assert live(zone) == 0


def test_buffers_come_from_zones_alone(api: ModuleType) -> None:
    with pytest.raises(TypeError):
        api.Buffer()


def test_repr_tells_length_and_address(zone: Any) -> None:
    buffer = zone.buffer(100)
    assert repr(buffer).startswith(f"<Buffer of 100 bytes at {buffer.address:#x}")
