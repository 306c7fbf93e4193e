"""`max_bytes` of the stores on disk: bounded, least recently used first, cheap, for many processes."""

import contextlib
import os
import pathlib
import sqlite3

import numpy as np
import pytest

from askonce import EmbeddingCache, InputError, StoreError, open_store
from askonce.core import codecs, entry
from askonce.stores import usage
from askonce.stores.file import FileStore
from askonce.stores.lmdb import LMDBStore
from askonce.stores.sqlite import SQLiteStore
from askonce.testing import Opener, Raw, StoreTests
from tests import limits
from tests.alone import alone
from tests.limits import LIMIT, URLS, value_of
from tests.stores import forks

ROOMY = 10**9
TICK = 100
"""More entries than are written between two ticks of the coarsest clock, that of the files."""

each = pytest.mark.parametrize("scheme", URLS)


class TestLimitedSQLiteStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: SQLiteStore(tmp_path / "store.db", max_bytes=ROOMY)


class TestLimitedFileStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: FileStore(tmp_path / "store", max_bytes=ROOMY)


class TestLimitedLMDBStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: LMDBStore(tmp_path / "store", max_bytes=ROOMY)

    @pytest.fixture
    def raw(self, opener: Opener) -> Raw:
        """Read through the engine alone."""

        def read():
            with opener() as another:
                found = another._with(lambda environment: dict(entries_of(environment)))
            return {key.decode(): value for key, value in found.items()}

        return read


def entries_of(environment):
    with environment.begin() as transaction, transaction.cursor() as cursor:
        yield from ((key, value) for key, value in cursor if key != b"\1usage")


@pytest.fixture
def limited(tmp_path):
    """Open the store of a scheme with the limit of these tests, or without one."""
    opened = []

    def open_one(scheme, limit=LIMIT):
        url = URLS[scheme].format(tmp_path / "place")
        opened.append(open_store(url if limit is None else f"{url}?max_bytes={limit}"))
        return opened[-1]

    (tmp_path / "place").mkdir()
    yield open_one
    for store in opened:
        store.close()


def fill(store, numbers, at_once=10):
    for start in range(numbers.start, numbers.stop, at_once):
        part = range(start, min(numbers.stop, start + at_once))
        store.write({f"a/{number}": value_of(number) for number in part})


def there(store, numbers):
    found = store.read([f"a/{number}" for number in numbers])
    return [number for number, value in zip(numbers, found, strict=True) if value is not None]


@each
def test_stays_within_its_limit_and_makes_use_of_it(limited, tmp_path, scheme):
    store = limited(scheme)
    for start in range(0, 2000, 100):
        fill(store, range(start, start + 100))
        assert limits.disk(tmp_path) < LIMIT * 1.4
    kept = there(store, range(2000))
    assert len(kept) * limits.LENGTH > LIMIT * 0.6
    # What was written last is what is kept; what was written in one tick of the clock is a tie.
    assert kept[0] > 2000 - len(kept) - TICK
    assert sorted(store.keys()) == sorted(f"a/{number}" for number in kept)


@each
def test_what_is_read_stays(limited, scheme):
    store = limited(scheme)
    hot = [1, 30, 77, 150]
    for start in range(0, 2000, 20):
        fill(store, range(start, start + 20))
        assert there(store, hot) == [number for number in hot if number < start + 20]
    assert not there(store, [2, 31, 78, 151])


@each
def test_the_order_of_use_decides(limited, scheme):
    store = limited(scheme)
    fill(store, range(300))
    if scheme == "file":
        for number in range(300):
            os.utime(store.path_of(f"a/{number}"), (1e9 + number, 1e9 + number))
    again = list(range(0, 150, 2))
    there(store, again)
    unread = [number for number in range(300) if number not in again]
    number = 1000
    while len(kept := {key for key in store.keys() if int(key[2:]) < 300}) == 300:
        assert number < 2000
        fill(store, range(number, number + 10))
        number += 10
    gone = [number for number in range(300) if f"a/{number}" not in kept]
    assert gone == unread[: len(gone)]


@each
def test_what_one_call_writes_is_never_given_up_by_it(limited, scheme):
    store = limited(scheme)
    fill(store, range(100))
    store.write({f"a/{number}": value_of(number) for number in range(100, 1000)})
    assert there(store, range(100, 1000)) == list(range(100, 1000))
    assert not there(store, range(100))
    fill(store, range(1000, 1010))
    kept = there(store, range(1010))
    assert len(kept) * limits.LENGTH < LIMIT
    assert set(range(1000, 1010)) <= set(kept)


@each
def test_rewriting_is_use(limited, scheme):
    store = limited(scheme)
    for start in range(0, 1000, 50):
        fill(store, range(start, start + 50))
        store.write({"a/0": value_of(0)})
    assert there(store, [0, 1]) == [0]


@each
def test_an_entry_above_the_limit_is_refused_and_spares_the_others(limited, scheme):
    store = limited(scheme)
    fill(store, range(50))
    with pytest.raises(StoreError, match=r"1 of 2 entries.*'a/huge'.*raise max_bytes"):
        store.write({"a/huge": bytes(LIMIT + 1), "a/small": b"small"})
    assert store.read(["a/huge", "a/small"]) == [None, b"small"]
    assert there(store, range(50)) == list(range(50))
    just = bytes(LIMIT)
    store.write({"a/just": just})
    assert store.read(["a/just"]) == [just]
    fill(store, range(1000, 1050))
    assert store.read(["a/just"]) == [None]
    assert there(store, range(1000, 1050)) == list(range(1000, 1050))


@each
def test_a_vector_above_the_limit_is_answered_all_the_same(limited, scheme):
    events = []
    row = np.ones((1, LIMIT // 4), np.float32)
    cache = EmbeddingCache(
        lambda _: row, model="m", store=limited(scheme), observe=events.append
    )
    assert cache.embed(["text"]).tobytes() == row.tobytes()
    assert [event.kind for event in events] == ["miss", "store_failed"]


@pytest.mark.parametrize("scheme", ["sqlite", "lmdb"])
def test_what_has_expired_goes_first(limited, scheme):
    store = limited(scheme)
    fill(store, range(100))
    old = entry.pack(entry.Entry(bytes(limits.LENGTH), codecs.JSON, created=1.0, expires=2.0))
    store.write({f"old/{number}": old for number in range(200)}, expires=2.0)
    start = 100
    while list(store.keys("old/")):
        assert start < 1000
        fill(store, range(start, start + 10))
        start += 10
    assert there(store, range(start)) == list(range(start))


@each
def test_a_store_that_had_no_limit_gets_one(limited, tmp_path, scheme):
    with limited(scheme, None) as store:
        fill(store, range(1000))
        store.delete(["a/999"])
    store = limited(scheme)
    assert store.evict() > 200
    kept = there(store, range(999))
    assert 450 < len(kept) < 800
    if scheme != "lmdb":  # its keys have no order in time
        assert kept[0] > 999 - len(kept) - TICK
    assert store.evict() == 0
    fill(store, range(1000, 1200))
    assert there(store, range(1000, 1200)) == list(range(1000, 1200))
    store.vacuum()
    assert limits.disk(tmp_path) < LIMIT * 1.1


@each
def test_those_who_know_no_limit_may_write_and_delete_too(limited, scheme):
    store, other = limited(scheme), limited(scheme, None)
    fill(store, range(100))
    other.delete([f"a/{number}" for number in range(0, 100, 2)])
    for start in range(100, 1500, 100):
        fill(other, range(start, start + 50))
        fill(store, range(start + 50, start + 100))
    kept = there(store, range(1500))
    assert len(kept) * limits.LENGTH < LIMIT
    assert set(range(1450, 1500)) <= set(kept)


@each
def test_reads_are_noted_in_batches_and_once_in_a_while(limited, tmp_path, scheme, monkeypatch):
    monkeypatch.setattr(usage, "_NOTE_AFTER", 1e9)
    store = limited(scheme)
    fill(store, range(200))
    there(store, range(200))
    store.evict()  # notes what was read, and has nothing else to do
    noted = limits.noted(store, tmp_path / "place")
    assert len(noted) == 200
    for _ in range(5):
        there(store, range(200))
    store.evict()
    # Read within a quarter of the time in which half of them were used: no news.
    monkeypatch.setattr(usage, "patience", lambda now, since: 1e9)
    for module in ("sqlite_usage", "lmdb_usage", "file_usage"):
        monkeypatch.setattr(f"askonce.stores.{module}.patience", lambda now, since: 1e9)
    # The system itself notes the first times that a file is read after its times were set.
    for _ in range(20 if scheme == "file" else 1):
        before = limits.noted(store, tmp_path / "place")
        there(store, range(200))
        store.evict()
        if limits.noted(store, tmp_path / "place") == before:
            break
    else:
        pytest.fail("what is read is noted again and again")


def test_patience_is_a_quarter_of_the_time_since_half_were_used_and_an_hour_at_most():
    assert usage.patience(100.0, 60.0) == 10.0
    assert usage.patience(1e6, 0.0) == 3600.0
    assert usage.patience(50.0, 60.0) == 0.0


@each
def test_without_a_limit_a_read_writes_nothing(limited, tmp_path, scheme):
    store = limited(scheme, None)
    fill(store, range(50))
    before = limits.state(tmp_path)
    for _ in range(3):
        there(store, range(50))
    assert limits.state(tmp_path) == before


@pytest.mark.parametrize("size", ["0", "1", "1000KB"])
@each
def test_a_limit_too_small_for_a_disk_is_refused(tmp_path, scheme, size):
    url = URLS[scheme].format(tmp_path)
    with pytest.raises(InputError, match="at least 1MiB"):
        open_store(f"{url}?max_bytes={size}")


@each
def test_four_processes_share_a_limit(tmp_path, scheme):
    (tmp_path / "place").mkdir()
    alone(limits.four_processes, scheme, tmp_path / "place")


@each
@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
def test_survives_a_fork(tmp_path, scheme, scenario):
    (tmp_path / "place").mkdir()
    alone(scenario, URLS[scheme].format(tmp_path / "place") + "?max_bytes=1GB")


def test_an_sqlite_file_has_no_gaps_however_random_what_goes_was(limited, tmp_path):
    store = limited("sqlite")
    chance = np.random.default_rng(4)
    for start in range(0, 3000, 10):
        fill(store, range(start, start + 10))
        there(store, chance.integers(max(0, start - 600), start + 1, 20).tolist())
    kept = len(list(store.keys()))
    assert kept * limits.LENGTH > LIMIT * 0.75
    path = tmp_path / "place/store.db"
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (count, highest) = connection.execute(
            "SELECT count(*), max(id) FROM askonce_entries"
        ).fetchone()
        (noted,) = connection.execute("SELECT count(*) FROM askonce_usage").fetchone()
    assert count == highest == noted == kept


def test_pruning_an_sqlite_store_needs_no_search(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store:
        store.write({"a/1": b"x"})
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM askonce_entries "
            "WHERE expires <= 1.0 AND expires < 9e999"
        ).fetchall()
    assert "askonce_expires" in plan[0][-1]


def test_the_names_of_lmdbs_trees_are_no_keys(limited):
    store = limited("lmdb")
    fill(store, range(3))
    assert sorted(store.keys()) == ["a/0", "a/1", "a/2"]
    assert store.read(["\1usage", "\1"]) == [None, None]
    with pytest.raises(StoreError, match="control character"):
        store.write({"\1usage": b"x"})
    store.delete(["\1usage"])
    assert store.clear("") == 3
    fill(store, range(3))
    with limited("lmdb", None) as other:
        assert sorted(other.keys()) == ["a/0", "a/1", "a/2"]


def test_file_times_count_as_use(limited, tmp_path):
    store = limited("file")
    fill(store, range(300))
    for number in range(300):
        os.utime(tmp_path / f"place/store/a/{number}", (number, number))
    os.utime(tmp_path / "place/store/a/5", (1e9, 5))
    before = there(store, [7])
    assert before == [7]
    status = os.stat(tmp_path / "place/store/a/7")
    assert status.st_atime > 1e9
    assert status.st_mtime == 7
    fill(store, range(1000, 1350))
    kept = there(store, range(300))
    assert {5, 7} <= set(kept)
    assert not {0, 1, 2, 3, 4, 6, 8} & set(kept)
