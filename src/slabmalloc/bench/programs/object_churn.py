# SPDX-License-Identifier: MIT
"""Instances with and without a dictionary, linked, passed through queues, and dropped in another order."""

from __future__ import annotations

from collections import deque


class Order:
    """With a dictionary."""

    def __init__(self, number: int, price: float) -> None:
        self.number = number
        self.price = price
        self.fills: list[Fill] = []


class Fill:
    """Without one."""

    __slots__ = ("amount", "order", "price")

    def __init__(self, order: Order, amount: int, price: float) -> None:
        self.order = order
        self.amount = amount
        self.price = price


def run(scale: int) -> int:
    """6,000 orders per unit of scale, of which up to 10,000 wait at a time."""
    waiting: deque[Order] = deque()
    book: dict[int, Order] = {}
    total = 0
    for number in range(6_000 * scale):
        order = Order(number, number * 0.37)
        order.fills.extend(Fill(order, amount, order.price + amount) for amount in range(number % 4))
        waiting.append(order)
        if number % 16 == 0:
            book[number] = order
        if len(waiting) > 10_000:
            done = waiting.popleft()
            total += sum(fill.amount for fill in done.fills)
            done.fills.clear()  # the circle is cut, so the count of references frees it
            book.pop(number - 15_000, None)
    return total + len(book) + len(waiting)
