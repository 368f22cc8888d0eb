# SPDX-License-Identifier: MIT
"""Two forms of an allocator in lock-step, and a third opinion of what must hold.

`Pair` makes every call on both forms, over memory of their own (`forms.Memory`), and compares what comes of it:
results, with addresses told as (page number, offset), or the type of the error. `Shadow` knows which objects live where
and notices overlap, misalignment and lost or changed bytes, should both forms err in the same way.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings

from forms import Memory, native
from slabmalloc import reference
from slabmalloc.slab_format import metadata_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from slabmalloc.pages import Page

Place = tuple[int, int]  # page number, offset

STEPS_PER_RUN = 100
STEPS = int(os.environ.get("SLABMALLOC_MODEL_STEPS", "300"))

# The same steps on every run and machine; more of them with SLABMALLOC_MODEL_STEPS, which the CI sets to ten thousand.
MODEL_SETTINGS = settings(
    derandomize=True,
    deadline=None,
    max_examples=max(1, STEPS // STEPS_PER_RUN),
    stateful_step_count=STEPS_PER_RUN,
    suppress_health_check=list(HealthCheck),
)


class Side:
    """One form, the memory it has, and its allocator."""

    def __init__(self, api: ModuleType, memory: Memory) -> None:
        self.api = api
        self.memory = memory
        self.allocator: Any = None

    def layout(self, size: int, align: int) -> Any:
        return self.api.Layout.from_size_align(size, align)

    def address(self, place: Place) -> int:
        return self.memory.address_of(place)

    def number(self, page: Page) -> int:
        return self.memory.pages.index(page)


class Pair:
    """Both forms, driven alike. Without the extension the reference is its own twin, and the shadow alone judges."""

    def __init__(self, memory: Callable[[], Memory], make: Callable[[ModuleType, Memory], Any]) -> None:
        self.sides = [Side(reference, memory()), Side(native or reference, memory())]
        self.make = make
        for side in self.sides:
            side.allocator = make(side.api, side.memory)

    def both(self, act: Callable[[Side], Any]) -> Any:
        """What `act` returns on either side, or the exception type; AssertionError if they differ."""
        outcomes = []
        for side in self.sides:
            try:
                outcomes.append(act(side))
            except Exception as error:
                outcomes.append(type(error))
        first, second = outcomes
        assert first == second, f"reference: {first}, native: {second}"
        return first

    def check(self) -> None:
        """Same statistics, every byte accounted for, every invariant held."""
        first, second = (side.allocator.stats() for side in self.sides)
        assert first == second, f"reference:\n{first}\nnative:\n{second}"
        assert first.conserved
        assert second.conserved
        assert len({side.memory.pages_in_use for side in self.sides}) == 1
        for side in self.sides:
            side.allocator.audit()

    def exchange(self) -> None:
        """Both allocators end; each one's pages, live objects and all, are restored by the other form."""
        for side in self.sides:
            side.allocator.close()
        left, right = self.sides
        for mine, other in zip(left.memory.pages, right.memory.pages, strict=True):
            assert mine.buffer[-32:] == other.buffer[-32:], "the trailers of corresponding pages are the same"
        left.memory, right.memory = right.memory, left.memory
        for side in self.sides:
            side.allocator = self.make(side.api, side.memory)

    def close(self) -> None:
        for side in self.sides:
            side.allocator.close()


class Shadow:
    """The live objects, by place; each holds its own bytes on both sides."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.live: dict[Place, tuple[int, int, bytes]] = {}  # size, alignment, contents
        self.starts: dict[int, list[int]] = defaultdict(list)  # offsets of live objects, by page, ascending
        self.count = 0

    def end_of(self, number: int, offset: int) -> int:
        return offset + self.live[number, offset][0]

    def allocated(self, places: Iterable[Place], size: int, align: int) -> None:
        """Objects of this layout came to live at `places`."""
        for number, offset in places:
            page = self.pair.sides[0].memory.pages[number]
            assert offset % align == 0
            assert offset + size <= page.SIZE - metadata_bytes(1), "no object lies in the meta-data"
            starts = self.starts[number]
            index = bisect(starts, offset)
            assert index == len(starts) or offset + size <= starts[index], "no object reaches into the next"
            assert not index or self.end_of(number, starts[index - 1]) <= offset, "nor the one before into this"
            starts.insert(index, offset)
            self.count += 1
            contents = self.count.to_bytes(4, "little")[: min(4, size)]
            self.live[number, offset] = (size, align, contents)
            for side in self.pair.sides:
                for start in (offset, offset + size - len(contents)):
                    side.memory.pages[number].buffer[start : start + len(contents)] = contents

    def freed(self, places: Iterable[Place]) -> None:
        """The objects at `places` ended; nobody had touched their bytes."""
        for number, offset in places:
            size, _, contents = self.live.pop((number, offset))
            self.starts[number].remove(offset)
            if size < 2 * len(contents):
                continue  # the two marks overlap
            for side in self.pair.sides:
                for start in (offset, offset + size - len(contents)):
                    assert side.memory.pages[number].buffer[start : start + len(contents)] == contents

    def check(self) -> None:
        """The statistics count as many objects, of as many bytes at least."""
        stats = self.pair.sides[0].allocator.stats()
        assert stats.live_objects == len(self.live)
        assert stats.live_bytes >= sum(size for size, _, _ in self.live.values())
