"""Cold: all that storing new vectors costs besides the model, and what the bare engines take."""

import contextlib
import hashlib
import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

import askonce
from benchmarks import samples
from benchmarks.frame import Comparison, Contender, Contest

COUNT = 5_000
BATCH = 1_000
BARE_SQLITE = "SQLite, bare insert"
BARE_LMDB = "LMDB, bare put"
SQLITE = "EmbeddingCache, sqlite"
LMDB = "EmbeddingCache, lmdb"


def contests(folder: Path) -> Iterator[Contest]:
    texts = samples.texts(COUNT, characters=1_100)
    for dimensions in (1536, 384):
        rows = samples.vectors(COUNT, dimensions)
        keys = [f"_/embedding/model/{hashlib.sha256(text.encode()).hexdigest()}" for text in texts]
        pairs = list(zip(keys, [row.tobytes() for row in rows], strict=True))
        serial = itertools.count()
        before: list[Path] = []

        def fresh(serial=serial, before=before, dimensions=dimensions) -> Path:
            """Make a new folder, and delete that of the round before."""
            for path in before:
                shutil.rmtree(path)
            before[:] = [folder / f"cold-{dimensions}-{next(serial)}"]
            before[0].mkdir()
            return before[0]

        yield Contest(
            f"cold, {dimensions:,} dimensions",
            "µs per vector",
            [
                Contender(BARE_SQLITE, lambda path, pairs=pairs: _sqlite(path, pairs), fresh),
                Contender(BARE_LMDB, lambda path, pairs=pairs: _lmdb(path, pairs), fresh),
                Contender(SQLITE, _ours("sqlite:///{}/cache.db", texts, rows), fresh),
                Contender(LMDB, _ours("lmdb:///{}", texts, rows), fresh),
            ],
            [
                Comparison(SQLITE, BARE_SQLITE, 25 / 40 if dimensions == 1536 else None),
                Comparison(LMDB, BARE_SQLITE, 25 / 20 if dimensions == 1536 else None),
                Comparison(LMDB, BARE_LMDB),
            ],
            units=COUNT,
        )


def _ours(url: str, texts, rows) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        batches = (rows[start : start + BATCH] for start in itertools.count(0, BATCH))
        cache = askonce.EmbeddingCache(
            lambda _: next(batches), model="model", store=url.format(path), batch_size=BATCH
        )
        cache.embed(texts)
        cache.close()

    return work


def _sqlite(path: Path, pairs) -> None:
    with contextlib.closing(sqlite3.connect(path / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 32768")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE bare (key TEXT PRIMARY KEY, value BLOB)")
        for batch in _cut(pairs):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO bare VALUES (?, ?)", batch)
            connection.execute("COMMIT")


def _lmdb(path: Path, pairs) -> None:
    with lmdb.open(str(path), map_size=2**40, metasync=False, readahead=False) as environment:
        for batch in _cut(pairs):
            with environment.begin(write=True) as transaction:
                for key, value in batch:
                    transaction.put(key.encode(), value)


def _cut(pairs) -> Iterator[list[tuple[str, bytes]]]:
    return (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH))
