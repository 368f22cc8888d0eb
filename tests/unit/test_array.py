# SPDX-License-Identifier: MIT
"""NumPy arrays in a zone's memory, on both forms: what they are, how long they last, and what can't be one."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from forms import Memory
from slabmalloc.errors import InvalidLayout, OutOfMemory

if TYPE_CHECKING:
    from types import ModuleType

numpy = pytest.importorskip("numpy")


def live(zone: Any) -> int:
    zone.audit()
    count: int = zone.stats().live_objects
    return count


@pytest.fixture
def zone(api: ModuleType, memory: Memory) -> Any:
    return api.ZoneAllocator(memory)


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "f8", "complex128", "bool", "S5", "U3", "M8[s]", float, "d"])
def test_dtypes(zone: Any, dtype: Any) -> None:
    array = zone.array((3, 4), dtype)
    assert type(array) is numpy.ndarray
    assert (array.shape, array.dtype) == ((3, 4), numpy.dtype(dtype))
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.flags.aligned
    array[:] = numpy.zeros(1, dtype)
    assert not array.view("u1").any()


@pytest.mark.parametrize(
    ("shape", "wanted"), [((), ()), (5, (5,)), ((5,), (5,)), ((2, 3, 4), (2, 3, 4)), ((1, 1), (1, 1))]
)
def test_shapes(zone: Any, shape: Any, wanted: tuple[int, ...]) -> None:
    array = zone.array(shape, "f8")
    assert array.shape == wanted
    array[...] = 2.5
    assert array.sum() == 2.5 * array.size
    assert live(zone) == 1


def test_a_structured_array(zone: Any) -> None:
    dtype = numpy.dtype([("id", "u4"), ("place", "f8", (3,)), ("name", "S4")], align=True)
    array = zone.array(100, dtype)
    array["id"] = numpy.arange(100)
    array["place"] = 1.5
    array["name"] = b"abc"
    assert array["id"].tolist() == list(range(100))
    assert array[99].tolist()[0] == 99
    assert array["place"].sum() == 450
    assert array.ctypes.data % dtype.alignment == 0


def test_arrays_are_aligned_whatever_the_size_classes(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory, size_classes=api.SizeClasses.from_sizes([24, 48]))
    arrays = [zone.array((), "longdouble") for _ in range(3)]
    alignment = numpy.dtype("longdouble").alignment
    assert [array.ctypes.data % alignment for array in arrays] == [0, 0, 0]
    assert all(array.flags.aligned for array in arrays)


def test_arrays_do_not_overlap(zone: Any) -> None:
    arrays = [zone.array(5, "u4") for _ in range(300)]
    for number, array in enumerate(arrays):
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(arrays))
    assert live(zone) == 300


def test_an_array_keeps_its_memory_and_its_zone(api: ModuleType, memory: Memory) -> None:
    zone = api.ZoneAllocator(memory)
    gone = weakref.ref(zone)
    part = zone.array((8, 8), "i4")[2:, 3]
    part[:] = 7
    assert live(zone) == 1
    with pytest.raises(BufferError):
        zone.close()
    del zone
    gc.collect()
    assert part.tolist() == [7] * 6
    assert memory.pages_in_use == 1
    del part
    gc.collect()
    assert gone() is None
    assert memory.pages_in_use == 0


def test_a_dropped_array_frees(zone: Any) -> None:
    array = zone.array(100, "f8")
    address = array.ctypes.data
    view = array.T
    del array
    assert live(zone) == 1
    del view
    assert live(zone) == 0
    assert zone.array(100, "f8").ctypes.data == address


def test_a_computed_array_is_numpys_own(zone: Any) -> None:
    array = zone.array(10, "f8")
    array[:] = 1
    total = array + array
    del array
    assert live(zone) == 0
    assert total.sum() == 20


@pytest.mark.parametrize("shape", [0, (0,), (3, 0, 4), -1, (-1, 2)])
def test_arrays_without_items(zone: Any, shape: Any) -> None:
    with pytest.raises(InvalidLayout, match=r"size -?\d+ is not positive|negative length"):
        zone.array(shape, "f8")
    assert live(zone) == 0


@pytest.mark.parametrize("shape", [16385, (128, 129), 1 << 40, (1 << 40, 1 << 40)])
def test_arrays_too_large(zone: Any, shape: Any) -> None:
    with pytest.raises(InvalidLayout):
        zone.array(shape, "f8")
    assert live(zone) == 0


def test_an_array_too_large_names_the_maximum(zone: Any) -> None:
    assert zone.array(16384, "f8").nbytes == zone.MAX_ALLOC_SIZE == 131072
    with pytest.raises(InvalidLayout, match=r"131080.* 131072"):
        zone.array(16385, "f8")


def test_arrays_of_objects_are_refused(zone: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        zone.array(3, object)
    assert live(zone) == 0


def test_shapes_that_numpy_refuses_leak_nothing(zone: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        zone.array((-2, -3), "f8")
    with pytest.raises((TypeError, ValueError)):
        zone.array((1,) * 100, "f8")
    assert live(zone) == 0


def test_no_array_without_memory(api: ModuleType) -> None:
    zone = api.ZoneAllocator(Memory(limit=1))
    array = zone.array(8192, "u1")
    others = [zone.array(8192, "u1") for _ in range(zone.stats().classes[0].capacity - 1)]
    with pytest.raises(OutOfMemory):
        zone.array(8192, "u1")
    address = array.ctypes.data
    del array
    assert zone.array(8192, "u1").ctypes.data == address
    assert live(zone) == len(others)
