# SPDX-License-Identifier: MIT
"""events.py PORT: an asyncio server on aiohttp that takes events of many sessions in, and computes in threads.

A session is forgotten when a thousand others were written to since, or nobody wrote to it for some seconds. Events
are large or small in waves, so what is kept grows and shrinks. The answers to /event and /compute depend on the
request alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import zlib
from collections import OrderedDict, deque

from aiohttp import web

IDLE_SECONDS, SESSIONS, EVENTS_OF_A_SESSION, KINDS = 5.0, 1_000, 40, 50


class Session:
    """The last events of one client."""

    def __init__(self) -> None:
        self.events: deque[dict[str, object]] = deque(maxlen=EVENTS_OF_A_SESSION)
        self.seen = time.monotonic()


sessions: OrderedDict[str, Session] = OrderedDict()
"""Last the one that was written to last."""
latest: deque[dict[str, object]] = deque(maxlen=100)
routes = web.RouteTableDef()


@routes.post("/event/{session}")
async def take(request: web.Request) -> web.Response:
    """An event, a JSON object, for a session."""
    body = await request.text()
    event = json.loads(body)
    name = request.match_info["session"]
    session = sessions.setdefault(name, Session())
    sessions.move_to_end(name)
    if len(sessions) > SESSIONS:
        sessions.popitem(last=False)
    session.events.append(event)
    session.seen = time.monotonic()
    latest.append(event)
    return web.json_response({"crc": zlib.crc32(body.encode()), "names": sorted(event)})


@routes.get("/feed")
async def feed(_request: web.Request) -> web.Response:
    """The latest events of all."""
    return web.json_response([{"at": place, **event} for place, event in enumerate(latest)])


@routes.get("/compute/{kind}")
async def compute(request: web.Request) -> web.Response:
    """Work in a thread: what it made is freed here."""
    table = await asyncio.to_thread(made, int(request.match_info["kind"]))
    return web.json_response({"rows": len(table), "crc": zlib.crc32(json.dumps(table).encode())})


def made(kind: int) -> list[dict[str, object]]:
    """Some thousand objects, through JSON and compression."""
    chance = random.Random(kind)
    rows = [{"id": i, "text": "x" * chance.randrange(80), "list": [i, str(i)]} for i in range(200 + 20 * kind)]
    packed = zlib.compress(json.dumps(rows).encode(), 1)
    return json.loads(zlib.decompress(packed))


async def forget(_app: web.Application) -> None:
    """Every second, the sessions that were idle."""

    async def work() -> None:
        while True:
            await asyncio.sleep(1)
            limit = time.monotonic() - IDLE_SECONDS
            for name in [name for name, session in sessions.items() if session.seen < limit]:
                del sessions[name]

    _app["forgetting"] = asyncio.create_task(work())


def expected() -> dict[str, int]:
    """Some paths, and the check sums of what they answer."""
    found = {}
    for kind in range(KINDS):
        table = made(kind)
        answer = {"rows": len(table), "crc": zlib.crc32(json.dumps(table).encode())}
        found[f"/compute/{kind}"] = zlib.crc32(json.dumps(answer).encode())
    return found


def main() -> None:
    """Serve until a signal ends it."""
    app = web.Application(client_max_size=1 << 22)
    app.add_routes(routes)
    app.on_startup.append(forget)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
