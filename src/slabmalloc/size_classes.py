# SPDX-License-Identifier: MIT
"""Size classes: which slot sizes there are, and on which kind of page each lives (floor 5).

A size class is a rounded object size, a row of a table without state. This module makes the tables (the default, the
seed's powers of two, geometric ones, lists, and the ones that fit a histogram best), finds the class of a layout, and
tells what each class costs.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

from .errors import InvalidLayout
from .pages import LargeObjectPage, ObjectPage, Page
from .slab_format import SlabGeometry, metadata_bytes, slab_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ClassWaste", "SizeClasses"]

GRANULE_BYTES = 8
MAX_CLASSES = 255
MAX_BASE_BYTES = 256
MAX_BYTES = 128 * 1024
PROCESS_ALIGN = 16
MAX_PROCESS_CLASSES = 128


class ClassWaste(NamedTuple):
    """What one size class costs; a row of the table in the documentation."""

    object_bytes: int
    page_bytes: int
    worst: float
    """Largest share of a slot that a request of this class leaves unused."""
    mean: float
    """The same on average over the sizes of this class, each as often as the others."""
    geometry: SlabGeometry


class Settings(TypedDict, total=False):
    """What every way of making a table takes beside its sizes."""

    base_page: type[Page]
    large_page: type[Page]
    max_base_size: int


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class SizeClasses:
    """Sizes of slots, ascending multiples of 8, 1 to 255 of them, and the two kinds of page that they live on.

    Sizes up to `max_base_size` live on pages of `base_page`, larger ones on pages of `large_page`. Made by `default`,
    `powers_of_two`, `geometric`, `from_sizes` and `fit`, all with these keyword-only settings:

    base_page, large_page: page types; ObjectPage and LargeObjectPage unless said otherwise.
    max_base_size: in bytes; 256 unless said otherwise.

    Raises ValueError if a size is not ascending or does not fit its page.

    >>> classes = SizeClasses.default()
    >>> classes
    <SizeClasses: 89 from 8 to 131072 bytes; up to 256 on ObjectPage, above on LargeObjectPage>
    >>> classes.sizes[classes.index_of(100, 1)], classes.sizes[classes.index_of(100, 64)]
    (112, 128)
    """

    sizes: tuple[int, ...]
    base_page: type[Page] = ObjectPage
    large_page: type[Page] = LargeObjectPage
    max_base_size: int = MAX_BASE_BYTES

    def __post_init__(self) -> None:
        if not 1 <= len(self.sizes) <= MAX_CLASSES:
            raise ValueError(f"there are 1 to {MAX_CLASSES} size classes, not {len(self.sizes)}")
        below = 0
        for index, size in enumerate(self.sizes):
            if size % GRANULE_BYTES or size <= below:
                raise ValueError(f"size classes ascend in multiples of {GRANULE_BYTES}: {size} stands after {below}")
            _check_fits(size, self.page_of(index))
            below = size
        _check_fits(self.max_base_size, self.base_page)

    # ---- tables --------------------------------------------------------------------------------------------

    @classmethod
    def default(cls, **settings: Unpack[Settings]) -> SizeClasses:
        """8, every 16 up to 128, then eight steps per doubling up to 128 KiB: at most 12.5 % waste above 128 bytes."""
        doublings = (start + step * start // 8 for start in _doublings(128, MAX_BYTES) for step in range(1, 9))
        return cls((8, *range(16, 129, 16), *doublings), **settings)

    @classmethod
    def powers_of_two(cls, **settings: Unpack[Settings]) -> SizeClasses:
        """8, 16, 32 ... 128 KiB."""
        return cls((8, *(2 * size for size in _doublings(8, MAX_BYTES))), **settings)

    @classmethod
    def geometric(cls, steps: int, **settings: Unpack[Settings]) -> SizeClasses:
        """`steps` equal ratios per doubling from 8 bytes to 128 KiB, rounded up to multiples of 8 (from 16 on: of 16).

        >>> SizeClasses.geometric(2).sizes[:8]
        (8, 16, 32, 48, 64, 96, 128, 192)
        """
        if steps < 1:
            raise ValueError(f"a doubling takes at least one step, not {steps}")
        sizes = {8, 16}
        for start in _doublings(16, MAX_BYTES):
            # Six decimals are plenty, and an exact power of two is not lost to a float just above it.
            exact = (round(start * 2 ** (step / steps), 6) for step in range(1, steps + 1))
            sizes.update(_round_up(ceil(size), 16) for size in exact)
        return cls(tuple(sorted(sizes)), **settings)

    @classmethod
    def from_sizes(cls, sizes: Iterable[int], **settings: Unpack[Settings]) -> SizeClasses:
        """These sizes in bytes, in any order, each rounded up to a multiple of 8; duplicates are dropped.

        >>> SizeClasses.from_sizes([100, 24, 20]).sizes
        (24, 104)
        """
        rounded = tuple(sorted({_round_up(size, GRANULE_BYTES) for size in sizes}))
        return cls(rounded, **settings)

    @classmethod
    def fit(cls, histogram: Mapping[int, int], *, classes: int, **settings: Unpack[Settings]) -> SizeClasses:
        """The table of at most `classes` sizes that wastes least on a histogram (size in bytes: how many), exactly.

        Waste is the sum of ``count * (class - size)``. O(classes * distinct * log distinct). Sizes without a count
        don't matter; ValueError if nothing is left, or if a count is negative.

        >>> SizeClasses.fit({24: 10, 32: 1000, 100: 500}, classes=2).sizes
        (32, 104)
        """
        if not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"there are 1 to {MAX_CLASSES} size classes, not {classes}")
        if any(size <= 0 or count < 0 for size, count in histogram.items()):
            raise ValueError("a histogram maps positive sizes to counts that are not negative")
        counts: dict[int, int] = {}
        for size, count in histogram.items():
            if count:
                rounded = _round_up(size, GRANULE_BYTES)
                counts[rounded] = counts.get(rounded, 0) + count
        if not counts:
            raise ValueError("nothing to fit: the histogram is empty")
        return cls(_least_waste(sorted(counts.items()), classes), **settings)

    # ---- look-up -------------------------------------------------------------------------------------------

    @property
    def max_size(self) -> int:
        """The largest size class, in bytes."""
        return self.sizes[-1]

    def index_of(self, size: int, align: int) -> int:
        """Index of the smallest class of at least `size` bytes whose slots are all aligned to `align`, a power of two.

        Slot addresses are multiples of the class size from an address aligned to the page, so a class serves an
        alignment if its size is a multiple of it. Raises InvalidLayout if no class does.
        """
        if size < 1:
            raise InvalidLayout(f"size {size} is not positive")
        if align < 1 or align & (align - 1):
            raise InvalidLayout(f"alignment {align} is not a power of two")
        for index in range(bisect_left(self.sizes, _round_up(size, align)), len(self.sizes)):
            if self.sizes[index] % align == 0:
                return index
        raise InvalidLayout(
            f"no size class serves {size} bytes aligned to {align}: the largest is {self.max_size} bytes"
        )

    def page_of(self, index: int) -> type[Page]:
        """The page type on which class `index` lives."""
        return self.base_page if self.sizes[index] <= self.max_base_size else self.large_page

    def waste(self) -> tuple[ClassWaste, ...]:
        """What each class costs, by ascending size.

        >>> SizeClasses.default().waste()[1]
        ClassWaste(object_bytes=16, page_bytes=4096, worst=0.4375, mean=0.21875, \
geometry=SlabGeometry(capacity=249, metadata=112, tail=0))
        """
        rows = []
        below = 0
        for index, size in enumerate(self.sizes):
            worst = (size - below - 1) / size
            page_bytes = self.page_of(index).SIZE
            rows.append(ClassWaste(size, page_bytes, worst, worst / 2, slab_geometry(size, page_bytes)))
            below = size
        return tuple(rows)

    def process_spec(self) -> str:
        """These sizes as ``slabmalloc run --classes=SPEC`` takes them: multiples of 16 up to 128 KiB.

        Other sizes are rounded up, and larger ones left out, since blocks above 128 KiB have no class there. Above the
        largest one the process heap adds those of its default. ValueError if there is none left, or if these and the
        added ones are more than 128.

        >>> SizeClasses.fit({40: 1000, 56: 200, 100: 500}, classes=2).process_spec()
        '48,112'
        """
        sizes = sorted({_round_up(size, PROCESS_ALIGN) for size in self.sizes if size <= MAX_BYTES})
        if not sizes:
            raise ValueError(
                f"the process heap has classes up to {MAX_BYTES} bytes, and the smallest is {self.sizes[0]}"
            )
        count = len(sizes) + sum(size > sizes[-1] for size in SizeClasses.default().sizes)
        if count > MAX_PROCESS_CLASSES:
            raise ValueError(
                f"{len(sizes)} classes and those that follow up to {MAX_BYTES} bytes are {count}, "
                f"and the process heap has at most {MAX_PROCESS_CLASSES}"
            )
        return ",".join(map(str, sizes))

    def __repr__(self) -> str:
        return (
            f"<SizeClasses: {len(self.sizes)} from {self.sizes[0]} to {self.max_size} bytes; "
            f"up to {self.max_base_size} on {self.base_page.__name__}, above on {self.large_page.__name__}>"
        )


def _check_fits(size: int, page: type[Page]) -> None:
    """ValueError unless one object of `size` bytes fits on `page` beside its meta-data."""
    room = page.SIZE - metadata_bytes(1)
    if size > room:
        raise ValueError(f"an object of {size} bytes does not fit on a {page.__name__}, which has room for {room}")


def _doublings(start: int, end: int) -> Iterable[int]:
    """start, 2 * start ... below end."""
    while start < end:
        yield start
        start *= 2


def _least_waste(histogram: list[tuple[int, int]], classes: int) -> tuple[int, ...]:
    """At most `classes` of the (ascending) sizes, among them the largest, with the least waste.

    ``best[j]`` is the least waste of the sizes up to j if j is a class, with so many classes as rounds went by; a
    round adds one: ``best'[j] = min over i < j of best[i] + waste(i, j)``, where sizes i+1 ... j share class j. The i
    that wins never falls as j rises (the waste obeys the quadrangle inequality), so half of the js tell in which half
    the others need to look: each round divides and conquers in O(n log n).
    """
    sizes = [size for size, _ in histogram]
    count_to = [0, *accumulate(count for _, count in histogram)]
    bytes_to = [0, *accumulate(size * count for size, count in histogram)]

    def waste(i: int, j: int) -> int:
        return sizes[j] * (count_to[j + 1] - count_to[i + 1]) - (bytes_to[j + 1] - bytes_to[i + 1])

    last = len(sizes) - 1
    best = [waste(-1, j) for j in range(len(sizes))]
    rounds: list[list[int]] = []  # for each round after the first: the class below j
    while len(rounds) + 1 < min(classes, len(sizes)):
        after, below = list(best), [-1] * len(sizes)
        tasks = [(1, last, 0, last)]
        while tasks:
            low, high, first, final = tasks.pop()
            if low > high:
                continue
            j = (low + high) // 2
            after[j], below[j] = min((best[i] + waste(i, j), i) for i in range(first, min(final, j - 1) + 1))
            tasks += [(low, j - 1, first, below[j]), (j + 1, high, below[j], final)]
        best = after
        rounds.append(below)
    chosen = [last]
    for below in reversed(rounds):
        if below[chosen[-1]] >= 0:
            chosen.append(below[chosen[-1]])
    return tuple(sizes[j] for j in reversed(chosen))
