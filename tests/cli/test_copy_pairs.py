"""Copies between any two kinds of store, killed on the way and begun again."""

import itertools
import math
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from askonce import open_store
from askonce.core import codecs, entry
from tests.servers.postgres import PostgresServer, postgres
from tests.servers.redis import give_redis
from tests.servers.s3 import S3Server, s3

__all__ = ["give_redis", "postgres", "s3"]

COUNT = 3000
BATCH = 150
KINDS = ["sqlite", "lmdb", "file", "redis", "postgres", "s3"]
ROOT = Path(__file__).parents[2]
_numbers = itertools.count()

KILLED = """
import os, signal, sys, threading
from askonce import transfer
from askonce.cli import main
transfer._MOST = transfer._FIRST = int(sys.argv[1])
put, left = transfer.Transfer.put, [int(sys.argv[2])]
def doomed(self, pairs):
    left[0] -= 1
    if left[0] == 0:
        threading.Timer(float(sys.argv[3]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    if left[0] < 0:
        threading.Event().wait()
    put(self, pairs)
transfer.Transfer.put = doomed
sys.exit(main(sys.argv[4:]))
"""


def made() -> dict[float, dict[str, bytes]]:
    """Make entries by their ends: vectors, answers that expire, and what others wrote."""
    chance = random.Random(5)

    def packed(size: int, expires: float = math.inf) -> bytes:
        return entry.pack(entry.Entry(chance.randbytes(size), codecs.JSON, time.time(), expires))

    lasting = {f"_/embedding/m/{number:064x}": packed(1536) for number in range(COUNT - 303)}
    lasting |= {"langchain": b"[1.0]", "ümläut/key with spaces": packed(70_000), "a/\n": packed(0)}
    ends = [time.time() + 3600 * 2**power for power in range(10)]
    return {math.inf: lasting} | {
        end: {f"team/chat/m/{end}/{number}": packed(number, end) for number in range(30)}
        for end in ends
    }


def content(url: str) -> dict[str, bytes | None]:
    with open_store(url) as store:
        keys = list(store.keys())
        return dict(zip(keys, store.read(keys), strict=True))


@pytest.fixture(scope="module")
def place(
    give_redis: Callable, postgres: PostgresServer, s3: S3Server
) -> Callable[[str, Path], str]:
    """Give a function that makes the URL of an empty store of a kind."""
    redis = give_redis("redis8")
    patient = "lookup_timeout=60&timeout=60"
    databases = itertools.cycle(range(len(KINDS), 16))  # the sources have those before

    def new_redis(number: int) -> str:
        database = number if number < len(KINDS) else next(databases)
        with redis.client() as client:
            client.select(database)
            client.flushdb()
        return redis.url(f"/{database}?{patient}")

    def new(kind: str, folder: Path) -> str:
        number = next(_numbers)
        if kind == "redis":
            return new_redis(number)
        if kind == "postgres":
            return f"{postgres.url(table=f'copied_{number}')}&{patient}"
        if kind == "s3":
            return f"{s3.url(s3.make_bucket(f'copied-{number}'))}&{patient}"
        return f"{kind}:///{folder}/{number}"

    return new


@pytest.fixture(scope="module")
def sources(place, tmp_path_factory) -> dict[str, tuple[str, dict[str, bytes]]]:
    """Give the URL and the content of a store of each kind."""
    groups = made()
    whole = {key: value for group in groups.values() for key, value in group.items()}
    urls = {kind: place(kind, tmp_path_factory.mktemp("sources")) for kind in KINDS}
    for url in urls.values():
        with open_store(url) as store:
            for end, group in groups.items():
                store.write(group, expires=end)
    return {kind: (url, whole) for kind, url in urls.items()}


@pytest.mark.parametrize("dst", KINDS)
@pytest.mark.parametrize("src", KINDS)
def test_killed_on_the_way_it_brings_every_byte(askonce, sources, place, tmp_path, src, dst):
    source, whole = sources[src]
    assert len(whole) == COUNT
    target = place(dst, tmp_path)
    chance = random.Random(f"{src} {dst}")
    batches = chance.randint(1, COUNT // BATCH // 2)
    command = [KILLED, BATCH, batches, chance.uniform(0, 0.01), "copy", source, target]
    done = subprocess.run(
        [sys.executable, "-c", *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr
    result = askonce("copy", source, target)
    assert (result.code, result.err) == (0, "")
    copied, there = map(int, re.findall(r"\d+", result.out + (" 0" if "," not in result.out else "")))
    assert (batches - 1) * BATCH <= there <= batches * BATCH
    assert copied + there == COUNT
    assert content(target) == whole == content(source)
