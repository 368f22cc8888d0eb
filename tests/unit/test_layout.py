# SPDX-License-Identifier: MIT
"""Layouts: what an object needs, on both forms; they are values, so they compare, hash, copy and travel."""

from __future__ import annotations

import copy
import pickle
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from slabmalloc.errors import AllocationError, InvalidLayout

if TYPE_CHECKING:
    from types import ModuleType

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(("size", "align"), [(1, 1), (64, 8), (7, 4096), (1 << 40, 1 << 30), ((1 << 63) - 1, 1 << 62)])
def test_size_and_align_are_kept(api: ModuleType, size: int, align: int) -> None:
    layout = api.Layout.from_size_align(size, align)
    assert (layout.size, layout.align) == (size, align)
    assert type(layout.size) is type(layout.align) is int


def test_integers_of_other_types_are_taken(api: ModuleType) -> None:
    layout = api.Layout.from_size_align(numpy.uint16(300), numpy.int64(16))
    assert layout == api.Layout.from_size_align(300, 16)
    assert repr(layout) == "Layout(size=300, align=16)"


@pytest.mark.parametrize("size", [0, -1, -(1 << 70), 1 << 63, 1 << 64, 1 << 100])
def test_sizes_that_no_memory_has(api: ModuleType, size: int) -> None:
    with pytest.raises(InvalidLayout, match=f"size {size} is not positive, or beyond any memory") as caught:
        api.Layout.from_size_align(size, 8)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AllocationError)


@pytest.mark.parametrize("align", [0, -1, -8, 3, 12, 4095, (1 << 62) + 1, 1 << 63, 1 << 64, 1 << 100])
def test_alignments_that_are_no_power_of_two(api: ModuleType, align: int) -> None:
    with pytest.raises(InvalidLayout, match=f"alignment {align} is not a power of two"):
        api.Layout.from_size_align(64, align)


@pytest.mark.parametrize("value", ["64", 64.0, None, b"\x40"])
def test_only_integers_measure_memory(api: ModuleType, value: Any) -> None:
    with pytest.raises(TypeError):
        api.Layout.from_size_align(value, 8)
    with pytest.raises(TypeError):
        api.Layout.from_size_align(64, value)


@pytest.mark.parametrize("name", ["size", "align"])
def test_a_layout_is_frozen(api: ModuleType, name: str) -> None:
    layout = api.Layout.from_size_align(64, 8)
    with pytest.raises(AttributeError):
        setattr(layout, name, 16)
    with pytest.raises(AttributeError):
        delattr(layout, name)
    assert layout == api.Layout.from_size_align(64, 8)


def test_a_layout_takes_no_other_attributes(api: ModuleType) -> None:
    with pytest.raises((AttributeError, TypeError)):
        api.Layout.from_size_align(64, 8).colour = "green"


def test_equal_layouts_are_one_key(api: ModuleType) -> None:
    layouts = [api.Layout.from_size_align(size, align) for size in (8, 64, 65) for align in (1, 8, 64)]
    again = [api.Layout.from_size_align(size, align) for size in (8, 64, 65) for align in (1, 8, 64)]
    assert layouts == again
    assert [hash(layout) for layout in layouts] == [hash(layout) for layout in again]
    assert len({*layouts, *again}) == 9


def test_layouts_differ_from_everything_else(api: ModuleType) -> None:
    layout = api.Layout.from_size_align(64, 8)
    assert layout != api.Layout.from_size_align(64, 16)
    assert layout != api.Layout.from_size_align(72, 8)
    assert layout != (64, 8)
    assert layout != 64
    assert layout is not None
    assert (layout == None) is False  # noqa: E711  the operator is what is tested


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_layout_survives_pickling_and_copying(api: ModuleType, protocol: int) -> None:
    layout = api.Layout.from_size_align(100, 32)
    for twin in (pickle.loads(pickle.dumps(layout, protocol)), copy.copy(layout), copy.deepcopy(layout)):
        assert twin == layout
        assert type(twin) is type(layout)


# ---- of a dtype --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typecode", "bBhHiIlLqQfd")
def test_typecodes_of_array(api: ModuleType, typecode: str) -> None:
    layout = api.Layout.for_dtype(typecode)
    assert layout.size == layout.align == array(typecode).itemsize
    assert api.Layout.for_dtype(typecode, (3, 5)).size == 15 * layout.size


@pytest.mark.parametrize("dtype", ["f8", "<u2", "complex128", "S7", "U3", "datetime64[ns]", float, "V13"])
def test_dtypes_of_numpy(api: ModuleType, dtype: Any) -> None:
    layout = api.Layout.for_dtype(dtype, (4,))
    assert layout.size == 4 * numpy.dtype(dtype).itemsize
    assert layout.align == numpy.dtype(dtype).alignment


def test_structured_dtypes(api: ModuleType) -> None:
    fields = [("tag", "u1"), ("value", "f8"), ("matrix", "f4", (2, 3))]
    assert api.Layout.for_dtype(fields) == api.Layout.from_size_align(1 + 8 + 24, 1)
    aligned = numpy.dtype(fields, align=True)
    assert api.Layout.for_dtype(aligned, 10) == api.Layout.from_size_align(400, 8)


@pytest.mark.parametrize(
    ("shape", "items"), [((), 1), (1, 1), (7, 7), ((7,), 7), ((2, 3, 4), 24), ((1, 1, 1), 1), ([2, 3], 6)]
)
def test_shapes(api: ModuleType, shape: Any, items: int) -> None:
    assert api.Layout.for_dtype("f8", shape) == api.Layout.from_size_align(8 * items, 8)


@pytest.mark.parametrize("shape", [0, (0,), (3, 0), (0, 1 << 70), -1, (-3, 1)])
def test_shapes_without_items(api: ModuleType, shape: Any) -> None:
    with pytest.raises(InvalidLayout, match=r"is not positive|negative length"):
        api.Layout.for_dtype("f8", shape)


def test_a_shape_with_two_negative_sides_is_no_shape(api: ModuleType) -> None:
    with pytest.raises(InvalidLayout):
        api.Layout.for_dtype("f8", (-2, -3))


def test_a_dtype_without_bytes(api: ModuleType) -> None:
    with pytest.raises(InvalidLayout, match="size 0 is not positive"):
        api.Layout.for_dtype("V0")


def test_a_shape_beyond_any_memory(api: ModuleType) -> None:
    with pytest.raises(InvalidLayout, match="beyond any memory"):
        api.Layout.for_dtype("f8", (1 << 32, 1 << 32))


def test_what_is_no_dtype(api: ModuleType) -> None:
    with pytest.raises(TypeError):
        api.Layout.for_dtype("no such type")
    with pytest.raises(TypeError):
        api.Layout.for_dtype("f8", "abc")


def test_both_forms_measure_alike(api: ModuleType) -> None:
    from slabmalloc import reference

    for dtype in ("b", "d", "f4", [("a", "u1"), ("b", "f8")]):
        for shape in ((), 3, (2, 5)):
            ours, plain = api.Layout.for_dtype(dtype, shape), reference.Layout.for_dtype(dtype, shape)
            assert (ours.size, ours.align) == (plain.size, plain.align)
            assert repr(ours) == repr(plain)
