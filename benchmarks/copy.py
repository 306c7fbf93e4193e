"""What `askonce copy` costs between any two stores, and that being killed costs no entry.

Entries are vectors of 384 dimensions, 1.6 kB each with their header. Every pair is copied twice by
the command in a process of its own, each time into an empty store:

- **Copied**: undisturbed; the time includes the start of the process.
- **Killed and resumed**: killed by SIGKILL at a moment drawn at random from the first half of the
  time that the undisturbed copy took (sooner if it is done by then), and run again. The benchmark
  fails unless then as many entries are there as in the first store, and all keys and bytes are the
  same, by their BLAKE2b digest.

The servers are real ones on this machine and share its cores with the command: Redis 8, Postgres 18,
and moto for S3, which is written in Python. Nothing is forced to the disk of Postgres.
"""

import contextlib
import functools
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import askonce
from askonce import transfer
from benchmarks.frame import Comparison, Contender, Contest
from benchmarks.growth_reader import fill
from tests.servers.postgres import PostgresServer, binaries
from tests.servers.redis import PROGRAMS, RedisServer
from tests.servers.s3 import S3Server

TITLE = "Copying from any store into any other"
PACKAGES = ("redis", "psycopg", "obstore", "moto", "lmdb", "numpy")
COUNT = 200_000
_WORK = Path(__file__).parent.parent / ".cache"
_ROOT = Path(__file__).parent.parent
_SEED = 5
_AT_ONCE = 1000
_LONG = "lookup_timeout=60&timeout=60"
"""A deadline is not what is measured here."""


@dataclass(frozen=True)
class Kind:
    """Make URLs of stores of one kind by names of our own, and remove what is there."""

    url: Callable[[str], str]
    remove: Callable[[str], object]


@dataclass(frozen=True)
class Copied:
    """Tell how one pair went; all but `seconds` are of the copy that was killed."""

    seconds: float
    left_when_killed: int
    copied_when_resumed: int


class Stores:
    """Be the servers and folders, and in each kind of store the same entries to copy from."""

    def __init__(self, stack: ExitStack) -> None:
        self.kinds = _kinds(stack)
        self._filled: dict[str, str] = {}
        self._content: tuple[int, str] = (0, "")

    def source(self, name: str) -> str:
        """Give the URL of a store with all entries; the first one gets new ones."""
        if name not in self._filled:
            url = self.kinds[name].url("source")
            if self._filled:
                with (
                    askonce.open_store(next(iter(self._filled.values()))) as first,
                    askonce.open_store(url) as store,
                ):
                    transfer.copy(first, store)
            else:
                fill(url, COUNT)
                self._content = _content(url)
            self._filled[name] = url
        return self._filled[name]

    def pair(self, source: str, target: str) -> Copied:
        """Copy from one kind of store into another, undisturbed, and then killed and resumed."""
        there, kind = self.source(source), self.kinds[target]
        began = time.perf_counter()
        copied = _finish(_start(there, kind.url("whole")))
        seconds = time.perf_counter() - began
        kind.remove("whole")
        url = self._kill(there, kind, random.Random(f"{_SEED} {source} {target}"), seconds / 2)
        with askonce.open_store(url) as store:
            left = COUNT - sum(1 for _ in store.keys())
        again = _finish(_start(there, url))
        found = _content(url)
        kind.remove("killed")
        if copied != COUNT or found != self._content:
            sys.exit(f"{source} to {target}: {copied:,} copied, then {found} is there")
        return Copied(seconds, left, again)

    def _kill(self, source: str, kind: Kind, chance: random.Random, within: float) -> str:
        """Start a copy, kill it within so many seconds, and give the URL of what it left."""
        while True:
            job = _start(source, kind.url("killed"))
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.wait(chance.uniform(0, within))
            job.kill()
            job.communicate()
            if job.returncode == -signal.SIGKILL:
                return kind.url("killed")
            kind.remove("killed")  # done already: the machine was busier before
            within /= 2


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their servers live until the last is over."""
    with ExitStack() as stack:
        stores = Stores(stack)
        results = {
            (source, target): functools.cache(functools.partial(stores.pair, source, target))
            for source in stores.kinds
            for target in stores.kinds
        }
        for source in stores.kinds:
            yield _rates(source, {target: results[source, target] for target in stores.kinds})
        yield _killed(results)


def _rates(source: str, results: dict[str, Callable[[], Copied]]) -> Contest:
    names = {f"{source} to {target}": result for target, result in results.items()}
    return Contest(
        f"copied from {source}",
        "entries a second",
        [Contender(name, lambda _: None) for name in names],
        [],
        scale=1,
        rounds=1,
        measure=lambda contender: COUNT / names[contender.name]().seconds,
    )


def _killed(results: dict[tuple[str, str], Callable[[], Copied]]) -> Contest:
    def total(name: str) -> int:
        return sum(getattr(result(), name) for result in results.values())

    names = {
        "in the stores copied from": lambda: COUNT * len(results),
        "not yet there when it was killed": lambda: total("left_when_killed"),
        "copied when it was run again": lambda: total("copied_when_resumed"),
        "missing or other in the end": lambda: 0,  # or it would not have come to this
    }
    return Contest(
        f"killed and resumed, {len(results)} pairs",
        "entries",
        [Contender(name, lambda _: None) for name in names],
        [Comparison("copied when it was run again", "not yet there when it was killed", 1)],
        scale=1,
        rounds=1,
        measure=lambda contender: names[contender.name](),
    )


def _kinds(stack: ExitStack) -> dict[str, Kind]:
    _WORK.mkdir(exist_ok=True)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=_WORK)))
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    redis = RedisServer(PROGRAMS["redis8"])
    stack.callback(redis.remove)
    redis.start()
    postgres = PostgresServer(binaries()["18"])
    stack.callback(postgres.remove)
    postgres.start()
    buckets: dict[str, S3Server] = {}
    stack.callback(lambda: [server.stop() for server in buckets.values()])

    def local(url: str) -> Kind:
        def path(name: str) -> Path:
            return folder / url.partition(":")[0] / name

        def url_of(name: str) -> str:
            path(name).mkdir(parents=True, exist_ok=True)
            return url.format(path(name))

        return Kind(url_of, lambda name: shutil.rmtree(path(name)))

    databases = ["source", "whole", "killed"]

    def redis_url(name: str) -> str:
        return redis.url(f"/{databases.index(name)}?{_LONG}")

    def flush(name: str) -> None:
        with contextlib.closing(redis.client()) as client:
            client.select(databases.index(name))
            client.flushdb()

    def s3_url(name: str) -> str:
        if name not in buckets:
            buckets[name] = S3Server()
            buckets[name].make_bucket("bench")
        return f"{buckets[name].url('bench')}&{_LONG}"

    return {
        "sqlite": local("sqlite:///{}/cache.db"),
        "lmdb": local("lmdb:///{}"),
        "file": local("file:///{}"),
        "redis": Kind(redis_url, flush),
        "postgres": Kind(
            lambda name: f"{postgres.url(table=name)}&{_LONG}",
            lambda name: postgres.execute(f"DROP TABLE IF EXISTS {name}"),
        ),
        "s3": Kind(s3_url, lambda name: buckets.pop(name).stop() if name in buckets else None),
    }


def _start(source: str, target: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "askonce.cli", "copy", source, target],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(job: subprocess.Popen[str]) -> int:
    """Tell how many entries were copied."""
    told, complaints = job.communicate()
    if job.returncode != 0:
        sys.exit(f"the copy failed with exit code {job.returncode}: {complaints}")
    return int(re.match(r"copied (\d+)", told)[1])


def _content(url: str) -> tuple[int, str]:
    """Count the entries of a store, and digest all keys and bytes, in whatever order they come."""
    found: list[bytes] = []
    with askonce.open_store(url) as store:
        keys = list(store.keys())
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            for key, value in zip(part, store.read(part), strict=True):
                digest = hashlib.blake2b(f"{len(key)} {key}".encode(), digest_size=32)
                digest.update(value or b"missing")
                found.append(digest.digest())
    return len(keys), hashlib.blake2b(b"".join(sorted(found)), digest_size=32).hexdigest()
