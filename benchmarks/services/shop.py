# SPDX-License-Identifier: MIT
"""A shop on Flask, for gunicorn: a catalogue in memory that all workers share, reviews in SQLite, pages by Jinja.

What is answered depends on the path alone, so that it can be checked. What is kept does not: each worker has a cache of
pages, from which the oldest go.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import sqlite3
import zlib
from collections import OrderedDict, defaultdict
from pathlib import Path

from flask import Flask, Response, render_template_string

ITEMS, REVIEWS, GROUPS, PAGES = 60_000, 150_000, 8, 1_500
WORDS = [
    f"{head}{tail}"
    for head in ("al", "ber", "cor", "dun", "el", "for", "gar", "hes")
    for tail in ("an", "ic", "om", "ute")
]
DATABASE = Path(os.environ["SERVICE_FOLDER"], "shop.db")

PAGE = """<!doctype html><title>{{ word }}</title><h1>{{ found | length }} for {{ word | upper }}</h1><table>
{% for item in found %}<tr class="{{ loop.cycle('odd', 'even') }}"><td>{{ loop.index }}
<td><a href="/item/{{ item.id }}">{{ item.name }}</a><td>{{ "%.2f" | format(item.price) }}
<td>{{ item.tags | sort | join(", ") }}<td>{{ item.text | truncate(60) }}
{% endfor %}</table>"""


def catalogue() -> dict[int, dict[str, object]]:
    """The items, by number."""
    chance = random.Random(1)
    items: dict[int, dict[str, object]] = {}
    for number in range(ITEMS):
        tags = chance.sample(WORDS, chance.randint(1, 4))
        text = " ".join(chance.choices(WORDS, k=chance.randint(5, 60)))
        name = f"{chance.choice(WORDS)} {number}"
        items[number] = {
            "id": number,
            "name": name,
            "price": chance.randint(100, 99_999) / 100,
            "tags": tags,
            "text": text,
        }
    return items


def prepare() -> None:
    """Writes the database, if there is none."""
    if DATABASE.exists():
        return
    chance = random.Random(2)
    rows = (
        (chance.randrange(ITEMS), chance.randint(1, 5), " ".join(chance.choices(WORDS, k=20))) for _ in range(REVIEWS)
    )
    with sqlite3.connect(DATABASE) as base:
        base.execute("CREATE TABLE review (item INTEGER, stars INTEGER, text TEXT)")
        base.executemany("INSERT INTO review VALUES (?, ?, ?)", rows)
        base.execute("CREATE INDEX review_item ON review (item)")


prepare()
app = Flask(__name__)
items = catalogue()
by_word: dict[str, list[int]] = defaultdict(list)
for number, item in items.items():
    for tag in item["tags"]:
        by_word[tag].append(number)
pages: OrderedDict[tuple[str, int], str] = OrderedDict()
"""Those used last; each worker's own."""
connections: dict[int, sqlite3.Connection] = {}


def base() -> sqlite3.Connection:
    """This process's connection: one must not go through a fork."""
    if os.getpid() not in connections:
        connections[os.getpid()] = sqlite3.connect(DATABASE)
    return connections[os.getpid()]


@app.get("/item/<int:number>")
def show_item(number: int) -> Response:
    """An item with its reviews."""
    rows = base().execute("SELECT stars, text FROM review WHERE item = ? ORDER BY rowid", [number]).fetchall()
    reviews = [{"stars": stars, "text": text, "words": text.split()} for stars, text in rows]
    return Response(json.dumps({**items[number], "reviews": reviews}), mimetype="application/json")


@app.get("/search/<word>/<int:start>")
def search(word: str, start: int) -> str:
    """A page of up to 100 items that bear a word."""
    page = pages.get((word, start))
    if page is None:
        found = sorted((items[number] for number in by_word[word]), key=lambda item: (item["price"], item["id"]))
        page = pages[word, start] = render_template_string(PAGE, word=word, found=found[start : start + 100])
    pages.move_to_end((word, start))
    if len(pages) > PAGES:
        for _ in range(PAGES // 3):
            pages.popitem(last=False)
    return page


@app.get("/report/<int:group>")
def report(group: int) -> Response:
    """What the items of a group come to: many objects for a short while."""
    rows = [{**item, "words": str(item["text"]).split()} for item in items.values() if item["id"] % GROUPS == group]
    sums: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for word in row["words"]:
            sums[word].append(row["price"])
    text = json.dumps(rows)
    told = {word: [len(prices), round(sum(prices), 2)] for word, prices in sorted(sums.items())}
    return Response(json.dumps({"crc": zlib.crc32(text.encode()), "rows": len(rows), "words": told}))


@app.get("/export/<int:group>")
def export(group: int) -> Response:
    """Reviews as a compressed table."""
    table = io.StringIO()
    rows = base().execute("SELECT * FROM review WHERE item % ? = ? ORDER BY rowid", [GROUPS, group])
    csv.writer(table).writerows(rows)
    return Response(zlib.compress(table.getvalue().encode(), 1), mimetype="application/octet-stream")


def expected() -> dict[str, int]:
    """Some paths, and the check sums of what they answer."""
    paths = [f"/item/{number}" for number in range(0, ITEMS, 4_001)]
    paths += [f"/search/{word}/{start}" for word in WORDS[::7] for start in (0, 900)]
    paths += [f"/report/{GROUPS - 1}", "/export/3"]
    client = app.test_client()
    return {path: zlib.crc32(client.get(path).data) for path in paths}
