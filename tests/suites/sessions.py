# SPDX-License-Identifier: MIT
"""What the programs of test_programs.py do: work as people give it to them, the same each time it is run.

A session gets a side and runs commands on it: `run` compares what they say, `quietly` does not, `start` does not wait.
Texts are made by a generator with a fixed seed.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from test_programs import Session

SEED = 20260801
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WORDS = [
    f"{head}{tail}" for head in ("al", "ber", "cor", "dun", "el", "for") for tail in ("an", "ic", "om", "ute", "y")
]


def lines(generator: random.Random, count: int) -> list[str]:
    return [" ".join(generator.choices(WORDS, k=generator.randint(3, 12))) for _ in range(count)]


def git(side: Session) -> None:
    """A repository with branches, a conflict, a rebase; packed, checked, read in every way, cloned."""
    generator = random.Random(SEED)
    moment = 1_700_000_000
    side.environment |= {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    side.environment["GIT_CONFIG_NOSYSTEM"] = "1"

    def commit(message: str) -> None:
        nonlocal moment
        moment += 600
        side.environment |= {f"GIT_{who}_DATE": f"{moment} +0000" for who in ("AUTHOR", "COMMITTER")}
        side.run("git", "add", "-A")
        side.run("git", "commit", "-q", "-m", message)

    def change(name: str) -> None:
        path = side.place / name
        text = path.read_text().splitlines() if path.exists() else lines(generator, 400)
        for _ in range(8):
            at = generator.randrange(len(text))
            text[at : at + generator.randrange(3)] = lines(generator, generator.randrange(3))
        path.write_text("\n".join(text) + "\n")

    side.run("git", "init", "-q", "-b", "main")
    for name in range(40):
        change(f"file{name}.txt")
    commit("first")
    for number in range(60):
        change(f"file{generator.randrange(40)}.txt")
        change(f"file{generator.randrange(40)}.txt")
        commit(f"change {number}")
    side.run("git", "checkout", "-q", "-b", "side", "HEAD~20")
    for number in range(20):
        change("file0.txt")
        commit(f"on the side {number}")
    side.run("git", "checkout", "-q", "main")
    change("file0.txt")
    commit("in the way")
    side.run("git", "merge", "side", status=1)
    side.run("git", "diff")
    side.run("git", "checkout", "--theirs", "file0.txt")
    commit("merged")
    side.run("git", "checkout", "-q", "-b", "later", "HEAD~5")
    change("other.txt")
    commit("to be rebased")
    side.run("git", "rebase", "-q", "main")
    side.run("git", "fast-import", "--quiet", given=history(generator, 3000))
    side.run("git", "gc", "-q", "--aggressive", "--prune=now")
    side.run("git", "fsck", "--full", "--strict")
    side.run("git", "log", "--all", "--graph", "--stat", "-M", "-C")
    side.run("git", "log", "-p", "--word-diff", "main")
    side.run("git", "blame", "-C", "-C", "file0.txt")
    side.run("git", "grep", "-n", "-E", "al(an|ic) .*dun", "imported")
    side.run("git", "shortlog", "-s", "--all")
    side.run("git", "clone", "-q", ".", "copy")
    side.run("git", "-C", "copy", "rev-parse", "HEAD", "origin/imported")
    side.run("git", "archive", "-o", "all.tar", "imported")
    side.run("sha256sum", "all.tar")


def history(generator: random.Random, count: int) -> str:
    """`count` commits in the format of `git fast-import`, on a branch of their own."""
    parts = []
    for number in range(count):
        text = "\n".join(lines(generator, 30)) + "\n"
        parts.append(
            f"commit refs/heads/imported\ncommitter nobody <nobody> {1_600_000_000 + number} +0000\n"
            f"data 10\nn {number:08}\nM 100644 inline folder{number % 50}/f{number % 701}\ndata {len(text)}\n{text}\n"
        )
    return "".join(parts)


def gcc(side: Session) -> None:
    """Our own core to assembler, with optimisation; C++ with templates, linked with link-time optimisation, and run."""
    wrapper = ["-wrapper", str(side.starter)]  # so that the compiler proper, which gcc starts, is seen too
    includes = [f"-I{ROOT / 'core'}", f"-I{ROOT / 'core' / 'include'}"]
    sources = sorted((ROOT / "core").glob("*/*.c"))
    assert sources
    for source in sources:
        for level in ("-O2", "-O3"):
            side.run("gcc", *wrapper, "-std=c11", level, *includes, "-S", str(source), "-o", "c.s")
            side.run("sha256sum", "c.s")
    program = str(HERE / "containers.cc")
    side.run("g++", *wrapper, "-std=c++17", "-O2", "-g", "-S", program, "-o", "cc.s")
    side.run("sha256sum", "cc.s")
    side.run("g++", *wrapper, "-std=c++17", "-O2", "-flto=2", program, "-o", "containers")
    side.run("./containers")


def sqlite3(side: Session) -> None:
    """Two tables, 200,000 rows, indices, joins, windows, JSON; half deleted, vacuumed, checked, dumped, read again."""
    side.run("sqlite3", "data.db", given=(HERE / "session.sql").read_text())
    side.run("sqlite3", "data.db", "PRAGMA integrity_check; PRAGMA foreign_key_check;")
    side.run("sqlite3", "-json", "data.db", "SELECT * FROM item WHERE id % 97 = 0 ORDER BY name DESC")
    dump = side.quietly("sqlite3", "data.db", ".dump")
    side.run("sqlite3", "copy.db", given=dump)
    side.run("sqlite3", "copy.db", ".sha3sum")
    side.run("sqlite3", "data.db", ".sha3sum")
    side.run("sqlite3", "data.db", ".backup backup.db")
    side.run("sqlite3", "backup.db", ".sha3sum")


def redis(side: Session) -> None:
    """A server with 200,000 keys of all kinds: saved by a child, reloaded, evicted, expired; and its own benchmark."""
    generator = random.Random(SEED)
    options = ("--port", "0", "--unixsocket", "socket", "--save", "", "--enable-debug-command", "local")
    server = side.start("redis-server", *options, "--loglevel", "warning", "--appendonly", "no")
    cli = ("redis-cli", "-s", "socket")
    try:
        for _ in range(100):
            if (side.place / "socket").exists():
                break
            time.sleep(0.1)
        side.run(*cli, "ping")
        for first in range(1, 200_001, 50_000):
            said = side.quietly(*cli, "--pipe", given="\n".join(commands(generator, first, 50_000)) + "\n")
            assert "errors: 0, replies: 50000" in said, said
            side.run(*cli, "debug", "digest")
        side.run(*cli, "dbsize")
        side.run(*cli, "save")
        side.run(*cli, "debug", "reload")
        side.run(*cli, "debug", "digest")
        side.quietly(*cli, "memory", "stats")
        side.quietly(*cli, "memory", "purge")
        side.run(*cli, "eval", DELETE_HALF, "0")
        side.run(*cli, "debug", "digest")
        side.quietly(*cli, "bgrewriteaof")
        benchmark(side)
        side.run(*cli, "flushall", "async")
        side.run(*cli, "dbsize")
        side.run(*cli, "config", "set", "maxmemory", "20mb", "maxmemory-policy", "allkeys-lru")
        side.quietly(*cli, "--pipe", given="\n".join(f"set key{n} {'x' * 1000}" for n in range(50_000)) + "\n")
        assert 5_000 < int(side.quietly(*cli, "dbsize")) < 25_000
        side.quietly(*cli, "shutdown", "nosave")
        assert server.wait(timeout=30) == 0
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


DELETE_HALF = """
local deleted = 0
local names = redis.call('keys', '*')
table.sort(names)
for i = 1, #names, 2 do deleted = deleted + redis.call('del', names[i]) end
return deleted
"""


def commands(generator: random.Random, first: int, count: int) -> list[str]:
    """Writes of all kinds, numbered from `first` on, in the form that `redis-cli --pipe` takes a line at a time."""
    told = []
    for number in range(count):
        key, word = generator.randrange(60_000), generator.choice(WORDS)
        told.append(
            generator.choice(
                (
                    f"set s{key} {word * generator.randint(1, 60)}",
                    f"append s{key} {word}",
                    f"hset h{key % 5000} {word}{key % 90} {word * 3}",
                    f"rpush l{key % 3000} {word} {word * 20}",
                    f"zadd z{key % 2000} {key} {word}{key % 400}",
                    f"sadd g{key % 2000} {key}",
                    f"xadd x{key % 300} {first + number}-1 field {word}",
                    f"setrange b{key % 500} {key % 9000} {word}",
                    f"del s{key}",
                )
            )
        )
    return told


def benchmark(side: Session) -> None:
    """How fast it is differs each time; that every test came to its end does not."""
    words = ("redis-benchmark", "-s", "socket", "-n", "50000", "-c", "20", "-P", "8", "-d", "200", "-r", "20000")
    said = side.quietly(*words, "--csv", "-t", "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,mset,lrange_100")
    assert "rror" not in said, said
    side.transcript.append((words, 0, "\n".join(line.split(",")[0] for line in said.splitlines())))


def node(side: Session) -> None:
    """JSON, buffers, compression, worker threads that send what they made."""
    side.run("node", str(HERE / "session.js"))
    side.run("node", "--max-semi-space-size=1", "--expose-gc", str(HERE / "session.js"))


def perl(side: Session) -> None:
    """Texts and hashes, regular expressions, sorting, children by fork that answer through pipes."""
    side.run("perl", "-w", str(HERE / "session.pl"))


SESSIONS: dict[str, tuple[Callable[[Session], None], tuple[str, ...]]] = {
    "git": (git, ("git", "sha256sum")),
    "gcc": (gcc, ("gcc", "g++", "sha256sum")),
    "sqlite3": (sqlite3, ("sqlite3",)),
    "redis": (redis, ("redis-server", "redis-cli", "redis-benchmark")),
    "node": (node, ("node",)),
    "perl": (perl, ("perl",)),
}
"""By name: the session, and the programs that it needs."""
