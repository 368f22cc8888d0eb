# SPDX-License-Identifier: MIT
"""Generators in pipelines, closures, partial functions, bound methods, small exceptions."""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Odd(Exception):
    """Raised for some numbers."""


def numbers(start: int, count: int) -> Iterator[tuple[int, str]]:
    """A source."""
    for number in range(start, start + count):
        yield number, str(number)


def paired(source: Iterable[tuple[int, str]]) -> Iterator[tuple[int, ...]]:
    """A stage with a stage inside."""
    for number, text in source:
        yield number, *(ord(letter) for letter in text)


def adder(step: int) -> Callable[[int], int]:
    """A closure over its step and a cell that changes."""
    seen = [0]

    def add(number: int) -> int:
        seen.append(number)
        if len(seen) > 8:
            seen.clear()
        return number + step

    return add


def refuse(number: int) -> int:
    """Raises for one number in five."""
    if number % 5 == 0:
        raise Odd(number)
    return number


def run(scale: int) -> int:
    """400 pipelines per unit of scale."""
    total = 0
    for start in range(400 * scale):
        chain = [adder(step) for step in range(12)] + [partial(max, start)]
        total += reduce(lambda number, function: function(number), chain, start)
        for numbers_of_letter in paired(numbers(start, 25)):
            total += sum(numbers_of_letter) & 255
        for number in range(start, start + 10):
            try:
                total += refuse(number) & 7
            except Odd as error:
                total += len(error.args)
    return total
