# SPDX-License-Identifier: MIT
"""Size classes: the tables, the look-up, and that `fit` finds the least waste there is."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slabmalloc.errors import InvalidLayout
from slabmalloc.pages import LargeObjectPage, ObjectPage, page_type
from slabmalloc.size_classes import SizeClasses
from slabmalloc.slab_format import Bitset, bitset_words, metadata_bytes, slab_geometry

TABLES = {
    "default": SizeClasses.default(),
    "powers of two": SizeClasses.powers_of_two(),
    "geometric": SizeClasses.geometric(3),
    "list": SizeClasses.from_sizes([24, 40, 100, 256, 1000, 100_000]),
}


# ---- tables ------------------------------------------------------------------------------------------------------


def test_default() -> None:
    sizes = TABLES["default"].sizes
    assert sizes[:12] == (8, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176)
    assert sizes[sizes.index(256) :][:4] == (256, 288, 320, 352)
    assert (len(sizes), sizes[-1]) == (89, 131072)


def test_default_wastes_at_most_an_eighth_above_128() -> None:
    sizes = TABLES["default"].sizes
    for below, size in pairwise(sizes):
        if below >= 128:
            assert (size - (below + 1)) / (below + 1) <= 0.125


def test_powers_of_two_are_those_of_the_seed() -> None:
    assert TABLES["powers of two"].sizes == tuple(2**i for i in range(3, 18))


def test_geometric() -> None:
    assert SizeClasses.geometric(1) == SizeClasses.powers_of_two()
    assert TABLES["geometric"].sizes[:9] == (8, 16, 32, 48, 64, 96, 112, 128, 176)
    for steps in range(1, 20):
        sizes = SizeClasses.geometric(steps).sizes
        assert {2**i for i in range(3, 18)} <= set(sizes)
        assert all(size % 16 == 0 for size in sizes[1:])
    with pytest.raises(ValueError, match="at least one step"):
        SizeClasses.geometric(0)
    with pytest.raises(ValueError, match="1 to 255"):
        SizeClasses.geometric(100)


def test_from_sizes_rounds_sorts_and_drops_duplicates() -> None:
    assert SizeClasses.from_sizes([100, 97, 1, 8]).sizes == (8, 104)


@pytest.mark.parametrize(
    ("sizes", "fault"),
    [
        ([], "1 to 255"),
        (range(8, 8 * 257, 8), "1 to 255"),
        ([0], "0 stands after 0"),
        ([-8], "-8 stands after 0"),
        ([8, 2 << 20], "does not fit"),
    ],
)
def test_impossible_lists(sizes: list[int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        SizeClasses.from_sizes(sizes)


@pytest.mark.parametrize("sizes", [(8, 8), (16, 8), (12,), (0, 8)])
def test_table_itself_takes_only_ascending_multiples_of_8(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascend in multiples of 8"):
        SizeClasses(sizes)


def test_each_class_fits_its_page() -> None:
    assert SizeClasses.from_sizes([4048], max_base_size=4048).page_of(0) is ObjectPage
    with pytest.raises(ValueError, match="ObjectPage, which has room for 4048"):
        SizeClasses.from_sizes([4056], max_base_size=4056)
    with pytest.raises(ValueError, match="Page64KiB"):
        SizeClasses.default(large_page=page_type(65536))
    with pytest.raises(ValueError, match="5000 bytes does not fit"):
        SizeClasses.from_sizes([8], max_base_size=5000)


def test_pages_by_size() -> None:
    classes = TABLES["default"]
    assert {classes.page_of(i) for i, size in enumerate(classes.sizes) if size <= 256} == {ObjectPage}
    assert {classes.page_of(i) for i, size in enumerate(classes.sizes) if size > 256} == {LargeObjectPage}
    other = SizeClasses.default(base_page=page_type(65536), max_base_size=1024)
    assert other.page_of(other.index_of(1024, 1)) is page_type(65536)
    assert (other.max_base_size, other.max_size) == (1024, 131072)


def test_frozen_and_hashable() -> None:
    assert {SizeClasses.default(): 1}[SizeClasses.default()] == 1
    with pytest.raises(AttributeError):
        SizeClasses.default().sizes = ()  # type: ignore[misc]


# ---- look-up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
@settings(derandomize=True, deadline=None)
@given(size=st.integers(1, 140_000), shift=st.integers(0, 20))
def test_index_of_is_the_smallest_class_that_serves(name: str, size: int, shift: int) -> None:
    classes, align = TABLES[name], 1 << shift
    rounded = -(-size // align) * align
    serving = [i for i, each in enumerate(classes.sizes) if each >= rounded and each % align == 0]
    if serving:
        assert classes.index_of(size, align) == serving[0]
    else:
        with pytest.raises(InvalidLayout):
            classes.index_of(size, align)


@pytest.mark.parametrize(("size", "align"), [(0, 1), (-1, 1), (131073, 1), (8, 0), (8, -8), (8, 3), (8, 1 << 18)])
def test_index_of_refuses(size: int, align: int) -> None:
    with pytest.raises(InvalidLayout):
        TABLES["default"].index_of(size, align)


# ---- geometry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_bytes", [4096, 65536, 2 << 20, 1 << 30])
@pytest.mark.parametrize("object_bytes", [8, 16, 24, 64, 512, 1000, 4048])
def test_geometry_is_the_best_that_fits(object_bytes: int, page_bytes: int) -> None:
    capacity, metadata, tail = slab_geometry(object_bytes, page_bytes)
    assert capacity * object_bytes + metadata + tail == page_bytes
    assert (capacity + 1) * object_bytes + metadata_bytes(capacity + 1) > page_bytes
    assert tail >= 0
    if object_bytes >= 64:
        assert metadata / page_bytes <= 0.02


def test_large_page_of_512_byte_objects() -> None:
    assert slab_geometry(512, 2 << 20).capacity >= 4080


def test_capacity_where_one_slot_more_costs_another_summary() -> None:
    assert [bitset_words(bits) for bits in (1, 64, 65, 128, 4096, 4097)] == [1, 1, 3, 3, 65, 68]
    assert slab_geometry(4056, 4096).capacity == 0


def test_waste() -> None:
    for row, size in zip(TABLES["default"].waste(), TABLES["default"].sizes, strict=True):
        assert row.object_bytes == size
        assert row.mean <= row.worst < 1
        assert row.geometry == slab_geometry(size, row.page_bytes)
    assert max(row.worst for row in TABLES["default"].waste() if row.object_bytes > 128) <= 0.125


@settings(derandomize=True, deadline=None)
@given(size=st.integers(1, 5000), data=st.data())
def test_bitset_is_a_set(size: int, data: st.DataObject) -> None:
    numbers = Bitset(memoryview(bytearray(8 * bitset_words(size))).cast("Q"), size)
    model: set[int] = set()
    for number in data.draw(st.lists(st.integers(0, size - 1), max_size=30)):
        (numbers.remove if number in model else numbers.add)(number)
        model ^= {number}
        assert (number in numbers) == (number in model)
        assert numbers.to_int() == sum(1 << each for each in model)
        assert numbers.summaries_hold()
        if model:
            assert numbers.lowest() == min(model)


# ---- fit ---------------------------------------------------------------------------------------------------------


def waste(histogram: dict[int, int], sizes: tuple[int, ...]) -> int:
    return sum(count * (min(each for each in sizes if each >= size) - size) for size, count in histogram.items())


def least_waste(histogram: dict[int, int], classes: int) -> int:
    """By trying every table."""
    sizes = sorted({-(-size // 8) * 8 for size in histogram})
    tables = (
        (*chosen, sizes[-1]) for count in range(min(classes, len(sizes))) for chosen in combinations(sizes[:-1], count)
    )
    return min(waste(histogram, table) for table in tables)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    histogram=st.dictionaries(st.integers(1, 300), st.integers(1, 50), min_size=1, max_size=10),
    classes=st.integers(1, 6),
)
def test_fit_wastes_least(histogram: dict[int, int], classes: int) -> None:
    fitted = SizeClasses.fit(histogram, classes=classes).sizes
    assert len(fitted) <= classes
    assert waste(histogram, fitted) == least_waste(histogram, classes)


def test_fit_of_few_sizes_is_those_sizes() -> None:
    assert SizeClasses.fit({24: 1, 100: 1}, classes=255).sizes == (24, 104)


def test_fit_ignores_sizes_without_a_count() -> None:
    assert SizeClasses.fit({24: 5, 4000: 0}, classes=2).sizes == (24,)


def test_fit_passes_settings_on() -> None:
    fitted = SizeClasses.fit({2000: 1}, classes=1, base_page=page_type(65536), max_base_size=2000)
    assert fitted.page_of(0) is page_type(65536)


@pytest.mark.parametrize(
    ("histogram", "classes", "fault"),
    [
        ({}, 1, "empty"),
        ({8: 0}, 1, "empty"),
        ({0: 1}, 1, "positive sizes"),
        ({8: -1}, 1, "not negative"),
        ({8: 1}, 0, "1 to 255"),
        ({8: 1}, 256, "1 to 255"),
    ],
)
def test_fit_refuses(histogram: dict[int, int], classes: int, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        SizeClasses.fit(histogram, classes=classes)


# ---- for the process heap ----------------------------------------------------------------------------------------


def test_process_spec_is_multiples_of_16() -> None:
    assert SizeClasses.from_sizes([8, 24, 40, 48, 100]).process_spec() == "16,32,48,112"
    assert SizeClasses.powers_of_two().process_spec() == ",".join(str(2**i) for i in range(4, 18))


def test_process_spec_leaves_out_what_has_no_class_there() -> None:
    assert SizeClasses.from_sizes([48, 131_072, 131_080, 200_000]).process_spec() == "48,131072"
    with pytest.raises(ValueError, match="the smallest is 200000"):
        SizeClasses.from_sizes([200_000]).process_spec()


def test_process_spec_counts_the_classes_that_follow() -> None:
    complete = SizeClasses.from_sizes([*range(16, 2048, 16), 131_072])
    assert complete.process_spec().count(",") == 127
    with pytest.raises(ValueError, match="127 classes and those that follow up to 131072 bytes are 176"):
        SizeClasses.from_sizes(range(16, 2048, 16)).process_spec()
