"""A store of any size, and a process that reads from it."""

import contextlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import askonce
from askonce.core import entry, vectors
from askonce.core.keys import Subject, utf8_each

DIMENSIONS = 384
READ_AT_ONCE = 10_000
_WRITE_AT_ONCE = 50_000
_FILLER = "la vie est un long fleuve tranquille, et " * 30
_BASE = np.random.default_rng(0).standard_normal((1009, DIMENSIONS), np.float32)


def texts_of(numbers) -> list[str]:
    return [f"{number}. {_FILLER}"[:1100] for number in numbers.tolist()]


def rows_of(numbers):
    rows = _BASE[numbers % len(_BASE)]
    rows[:, 0] = numbers
    return rows


def fill(url: str, size: int) -> None:
    """Store so many vectors, as `EmbeddingCache` would, without asking what is there."""
    subject = Subject("", "embedding", "model", {})
    with contextlib.closing(askonce.open_store(url)) as store:
        for start in range(0, size, _WRITE_AT_ONCE):
            numbers = np.arange(start, min(size, start + _WRITE_AT_ONCE))
            digests = subject.digests(utf8_each(texts_of(numbers)))
            bindings = np.frombuffer(b"".join(digests), "<u8")[::4]
            blobs = vectors.pack(
                rows_of(numbers), bindings, created=time.time(), expires=entry.NEVER
            )
            # In the order of keys: neighbours of a page go into it together.
            store.write(dict(sorted(zip(subject.keys(digests), blobs, strict=True))))


class Reader:
    """Be a process that reads random vectors from a store."""

    def __init__(self, url: str, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, url, size), daemon=True)
        self._process.start()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._process.join()

    def read_all(self) -> None:
        """Read random ones for the first time, which takes `first` seconds, then all of them."""
        self.first = self.read()
        self._ask("read all")

    def read(self) -> float:
        """Read others than before; seconds."""
        return self._ask("read")

    def memory(self) -> dict[str, float]:
        """Bytes more than before the store was opened, by kind."""
        return self._ask("memory")

    def _ask(self, what: str):
        self._pipe.send(what)
        return self._pipe.recv()


def _serve(pipe: Connection, url: str, size: int) -> None:
    def refuse(_):
        raise AssertionError("asked for what is stored")

    chance = np.random.default_rng(size)
    numbers = np.arange(READ_AT_ONCE)
    assert len(texts_of(numbers)) == len(rows_of(numbers))  # what the reading itself takes
    before = _memory()
    cache = askonce.EmbeddingCache(refuse, model="model", store=url)
    while (what := pipe.recv()) != "end":
        if what == "memory":
            pipe.send({kind: now - before[kind] for kind, now in _memory().items()})
            continue
        if what == "read all":
            for start in range(0, size, READ_AT_ONCE):
                cache.embed(texts_of(np.arange(start, min(size, start + READ_AT_ONCE))))
            pipe.send(None)
            continue
        numbers = chance.choice(size, READ_AT_ONCE, replace=False)
        texts = texts_of(numbers)
        begin = time.perf_counter()
        rows = cache.embed(texts)
        pipe.send(time.perf_counter() - begin)
        assert np.array_equal(rows, rows_of(numbers))
        del texts, rows


def _memory() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    kinds = {"own": "RssAnon", "mapped": "RssFile"}
    return {kind: int(values[name].split()[0]) * 1024 for kind, name in kinds.items()}
