# SPDX-License-Identifier: MIT
"""shuffles.py SECONDS CALM: a Dask LocalCluster of two processes with two threads each, kept busy.

A round joins two data frames by a key that lies in all partitions, sums by group, and reads JSON lines into
dictionaries that are counted. Its results are compared with what pandas and plain Python made of the same data before.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from logging import ERROR
from typing import Any

import dask
import dask.bag
import dask.dataframe
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from told import Tally, tell

PARTITIONS, ROWS, KEYS, LINES, KINDS = 8, 40_000, 5_000, 3_000, 4


def frame(kind: int, partition: int) -> pd.DataFrame:
    """A partition of the longer table."""
    generator = np.random.default_rng([kind, partition])
    key = generator.integers(0, KEYS, ROWS)
    names = np.array([f"name {number}" for number in range(200)])[key % 200]
    return pd.DataFrame(
        {"key": key, "value": generator.integers(0, 1_000, ROWS), "x": generator.random(ROWS), "name": names}
    )


def weights(kind: int) -> pd.DataFrame:
    """The shorter table."""
    generator = np.random.default_rng(kind)
    return pd.DataFrame(
        {"key": np.arange(KEYS), "weight": generator.integers(1, 9, KEYS), "group": np.arange(KEYS) % 37}
    )


def lines(kind: int, partition: int) -> list[str]:
    """Documents as text."""
    chance = random.Random(1_000 * kind + partition)
    return [
        json.dumps(
            {"id": i, "owner": f"owner {chance.randrange(300)}", "tags": [str(chance.random()) for _ in range(9)]}
        )
        for i in range(LINES)
    ]


def by_owner(rows: list[dict[str, Any]]) -> Counter[str]:
    """How many tags each owner has."""
    count: Counter[str] = Counter()
    for row in rows:
        count[row["owner"]] += len(row["tags"])
    return count


def expected(kind: int) -> tuple[dict[int, int], int]:
    """What a round must come to."""
    whole = pd.concat([frame(kind, partition) for partition in range(PARTITIONS)])
    joined = whole.merge(weights(kind), on="key")
    sums = (joined["value"] * joined["weight"]).groupby(joined["group"]).sum()
    tags = sum(len(json.loads(line)["tags"]) for partition in range(PARTITIONS) for line in lines(kind, partition))
    return {int(group): int(total) for group, total in sums.items()}, tags


def round_of(kind: int) -> tuple[dict[int, int], int]:
    """The same, by the cluster."""
    left = dask.dataframe.from_map(lambda partition: frame(kind, partition), range(PARTITIONS))
    right = dask.dataframe.from_pandas(weights(kind), npartitions=3)
    joined = left.shuffle(on="key").merge(right, on="key", how="inner")
    joined["total"] = joined["value"] * joined["weight"]
    sums = joined.groupby("group")["total"].sum()
    parts = [dask.delayed(lines)(kind, partition) for partition in range(PARTITIONS)]
    bag = dask.bag.from_delayed(parts).map(json.loads)
    counts = bag.map_partitions(lambda rows: [by_owner(list(rows))]).fold(lambda a, b: a + b)
    return {int(group): int(total) for group, total in sums.compute().items()}, sum(counts.compute().values())


def main(seconds: float, calm: float) -> None:
    """Load, then calm."""
    answers = [expected(kind) for kind in range(KINDS)]
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=None, memory_limit=0, silence_logs=ERROR
    )
    with cluster, Client(cluster) as client:
        round_of(0)  # what is imported, and made once, is no part of it
        tally = Tally()
        tell("load")
        while tally.seconds < seconds:
            kind = tally.given % KINDS
            tally.given += 1
            tally.wrong += round_of(kind) != answers[kind]
            tally.done += 1
        tell("calm", **tally.figures())
        end = time.monotonic() + calm
        while time.monotonic() < end:
            assert client.submit(sum, range(100), pure=False).result(60) == sum(range(100))
            time.sleep(0.1)
        tell("end")


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
