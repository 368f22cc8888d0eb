# SPDX-License-Identifier: MIT
"""SQLite in memory: rows inserted, indexed, joined, read into objects, and deleted."""

from __future__ import annotations

import sqlite3


def run(scale: int) -> int:
    """2,000 rows per unit of scale."""
    base = sqlite3.connect(":memory:")
    base.execute("create table item (number integer primary key, name text, shelf integer, price real)")
    base.execute("create table sale (item integer, pieces integer, day text)")
    count = 2_000 * scale
    items = ((n, f"article {n * 7919 % count}", n % 500, n * 0.25) for n in range(count))
    base.executemany("insert into item values (?, ?, ?, ?)", items)
    sales = ((n * 31 % count, n % 9, f"day {n % 365}") for n in range(count))
    base.executemany("insert into sale values (?, ?, ?)", sales)
    base.execute("create index item_shelf on item (shelf)")
    rows = base.execute("select name, shelf, price from item order by price desc").fetchall()
    total: int = sum(len(name) + shelf for name, shelf, _ in rows)
    joined = "select item.name, sum(pieces), day from sale join item on item = number group by item.name"
    total += sum(pieces for _, pieces, _ in base.execute(joined))
    for shelf in range(0, 500, 5):
        total += len(base.execute("select * from item where shelf = ?", (shelf,)).fetchall())
        base.execute("delete from item where shelf = ?", (shelf,))
    base.close()
    return total
