# SPDX-License-Identifier: MIT
"""Pages: what memory they accept, what they say of memory they don't, and how long they hold on to it."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import re
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

import pytest

from forms import new_page
from slabmalloc.errors import AllocationError, InvalidPage
from slabmalloc.pages import LargeObjectPage, ObjectPage, Page, address_of, page_type

if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 3 * 4096


def aligned_offset(buffer: Any, size: int = 4096) -> int:
    return -address_of(buffer) % size


def numpy_memory() -> Any:
    return pytest.importorskip("numpy").zeros((3, 4096), dtype="u1")


def numpy_records() -> Any:
    numpy = pytest.importorskip("numpy")
    return numpy.zeros(ROOM // 12, dtype=[("key", "u4"), ("value", "f8")])


MEMORIES: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(ROOM),
    "mmap": lambda: mmap.mmap(-1, ROOM),
    "array of doubles": lambda: array.array("d", bytes(ROOM)),
    "ctypes bytes": lambda: (ctypes.c_char * ROOM)(),
    "ctypes ints": lambda: (ctypes.c_int * (ROOM // 4))(),
    "memoryview": lambda: memoryview(bytearray(ROOM)),
    "numpy matrix": numpy_memory,
    "numpy records": numpy_records,
}


@pytest.mark.parametrize("kind", MEMORIES)
def test_page_lies_in_any_writable_buffer(kind: str) -> None:
    memory = MEMORIES[kind]()
    offset = aligned_offset(memory)
    page = ObjectPage(memory, offset)
    assert page.address == address_of(memory) + offset
    assert (page.size, len(page.buffer), page.buffer.format, page.buffer.readonly) == (4096, 4096, "B", False)
    page.buffer[:3] = b"abc"
    assert memoryview(memory).tobytes()[offset : offset + 3] == b"abc"


def test_page_lies_in_shared_memory() -> None:
    segment = shared_memory.SharedMemory(create=True, size=ROOM)
    try:
        assert segment.buf is not None
        page = ObjectPage(segment.buf)
        page.buffer[0] = 7
        assert segment.buf[0] == 7
        with pytest.raises(BufferError):
            segment.close()
        del page
    finally:
        gc.collect()
        segment.close()
        segment.unlink()


def test_sizes() -> None:
    assert (ObjectPage.SIZE, LargeObjectPage.SIZE) == (4096, 2097152)
    assert new_page(LargeObjectPage).size == 2 << 20


def test_buffer_stays_exported_while_the_page_lives() -> None:
    memory = bytearray(ROOM)
    page = ObjectPage(memory, aligned_offset(memory))
    with pytest.raises(BufferError):
        memory.append(0)
    del page
    memory.append(0)


def test_released_view_does_not_end_the_page() -> None:
    page = new_page()
    page.buffer.release()
    page.buffer[0] = 1
    assert page.buffer[0] == 1


# ---- what is refused, and what is said ---------------------------------------------------------------------------


def refusal(*arguments: Any, page: type[Page] = ObjectPage) -> str:
    with pytest.raises(InvalidPage) as caught:
        page(*arguments)
    assert isinstance(caught.value, AllocationError | ValueError)
    return str(caught.value)


def test_misaligned_memory_names_address_need_and_remedy() -> None:
    memory = mmap.mmap(-1, ROOM)
    text = refusal(memory, 16)
    assert f"{address_of(memory) + 16:#x} is 16 bytes past one" in text
    assert "multiple of 4096" in text
    assert text.endswith("pass offset=4096")


@pytest.mark.parametrize("excess", [8, 1000, 4088])
def test_remedy_for_misaligned_memory_is_one(excess: int) -> None:
    memory = memoryview(mmap.mmap(-1, 4 * 4096))[excess:]
    for offset in (0, 4, 4096):
        remedy = re.search(r"offset=(\d+)$", refusal(memory, offset))
        assert remedy is not None
        assert ObjectPage(memory, int(remedy[1])).address % 4096 == 0


def test_remedy_when_no_offset_is_aligned() -> None:
    memory = memoryview(mmap.mmap(-1, 8192))[8:5000]
    assert "pass a buffer of" in refusal(memory)


def test_memory_too_small() -> None:
    assert "needs 4096 bytes from offset 0 on: this bytearray has 100 there" in refusal(bytearray(100))
    assert "buffer of at least 4104 bytes" in refusal(bytearray(4096), 8)
    assert "has 0 there" in refusal(bytearray(100), 200)


def test_read_only_memory() -> None:
    assert "read-only" in refusal(bytes(ROOM))


def test_strided_memory() -> None:
    assert "C-contiguous" in refusal(memoryview(bytearray(ROOM))[::2])


def test_negative_offset() -> None:
    assert "negative" in refusal(bytearray(ROOM), -8)


def test_no_buffer_at_all() -> None:
    with pytest.raises(TypeError):
        ObjectPage(4096)  # type: ignore[arg-type]


def test_page_itself_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Page(bytearray(ROOM))


# ---- page types --------------------------------------------------------------------------------------------------


def test_page_type_is_the_same_for_the_same_size() -> None:
    assert page_type(4096) is ObjectPage
    assert page_type(2 << 20) is LargeObjectPage
    kind = page_type(65536)
    assert kind is page_type(65536)
    assert (kind.SIZE, kind.__name__, issubclass(kind, Page)) == (65536, "Page64KiB", True)
    assert page_type(1 << 30).SIZE == 1 << 30


@pytest.mark.parametrize("size", [-4096, 0, 1, 2048, 4097, 12288, 2 << 30])
def test_page_type_refuses_other_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="power-of-two"):
        page_type(size)


def test_page_type_is_checked_where_it_is_defined() -> None:
    with pytest.raises(ValueError, match="not 5000 bytes"):
        type("OddPage", (Page,), {"SIZE": 5000})


# ---- who has it --------------------------------------------------------------------------------------------------


def test_page_is_taken_once() -> None:
    page, owner = new_page(), object()
    assert not page.in_use
    page._take(owner)
    assert page.in_use
    with pytest.raises(InvalidPage, match=f"in use by object at {id(owner):#x}"):
        page._take(object())
    page._give_back()
    page._take(object())


def test_repr() -> None:
    page = new_page()
    assert repr(page) == f"<ObjectPage of 4 KiB at {page.address:#x}, free>"
    page._take(page)
    assert "in use by ObjectPage at" in repr(page)
