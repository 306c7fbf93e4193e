"""Stores with a limit, filled and looked at; four processes that share one."""

import contextlib
import hashlib
import os
import pathlib
import random
import sqlite3

from askonce import Store, open_store
from tests.alone import Gate, fork, join

LIMIT = 5_000_000
LENGTH = 6_200
URLS = {
    "sqlite": "sqlite:///{}/store.db",
    "file": "file:///{}/store",
    "lmdb": "lmdb:///{}/store",
}


def value_of(number: int) -> bytes:
    """Make a value that tells whether it is whole and whose it is."""
    return hashlib.shake_128(str(number).encode()).digest(LENGTH)


def disk(folder: pathlib.Path) -> int:
    """Add up the files of stores, without what counts and locks them."""
    apart = (".askonce", "lock.mdb", "store.db-shm", "leases.db")
    total = 0
    for path in folder.rglob("*"):
        if not any(part.startswith(apart) for part in path.parts):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size * path.is_file()
    return total


def state(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Give what changes when something is written."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("lock.mdb", "store.db-shm")
    }


def noted(store: Store, folder: pathlib.Path) -> dict[str, float]:
    """Give when each entry was last used, as the store notes it."""
    if (folder / "store.db").exists():
        connection = sqlite3.connect(folder / "store.db")
        rows = connection.execute(
            "SELECT key, used FROM askonce_entries JOIN askonce_usage USING (id)"
        ).fetchall()
        connection.close()
        return dict(rows)
    if (folder / "store/data.mdb").exists():

        def read(environment, tree):
            with environment.begin(db=tree) as transaction, transaction.cursor() as cursor:
                return {key: value for key, value in cursor if not key.startswith(b"\1")}

        return store._with_usage(read)
    files = [path for path in (folder / "store/a").iterdir()]
    return {path.name: max(path.stat().st_atime, path.stat().st_mtime) for path in files}


def four_processes(scheme: str, folder: str) -> None:
    """Write and read in four processes at once; nothing fails, is damaged or goes beyond bounds."""
    url = URLS[scheme].format(folder) + f"?max_bytes={LIMIT}"
    gate = Gate()

    def work(who: int) -> None:
        gate.wait()
        chance = random.Random(who)
        with open_store(url) as store:
            for start in range(0, 600, 6):
                mine = [who * 1000 + start + part for part in range(6)]
                store.write({f"a/{number}": value_of(number) for number in mine})
                wanted = [chance.randrange(4) * 1000 + chance.randrange(600) for _ in range(20)]
                found = store.read([f"a/{number}" for number in wanted])
                for number, value in zip(wanted, found, strict=True):
                    assert value is None or value == value_of(number), number
                if start % 100 < 6:
                    size = disk(pathlib.Path(folder))
                    assert size < LIMIT * (4 if scheme == "sqlite" else 1.7), size
                    # That was with the log; the file itself has the limit.
                    with contextlib.suppress(FileNotFoundError):
                        assert os.path.getsize(f"{folder}/store.db") < LIMIT * 1.1

    children = [fork(lambda who=who: work(who)) for who in range(4)]
    gate.open()
    join(*children)
    with open_store(url) as store:
        kept = list(store.keys())
        assert 350 < len(kept) < LIMIT // LENGTH, len(kept)
        for key, value in zip(kept, store.read(kept), strict=True):
            assert value == value_of(int(key[2:]))
    assert disk(pathlib.Path(folder)) < LIMIT * 1.3
