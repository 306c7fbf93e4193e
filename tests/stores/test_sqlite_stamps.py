"""The stamp of an SQLite store: another one after every change, whoever makes it."""

import contextlib
import os
import random
import shutil
import sqlite3
import threading
import time
import types

import pytest

from askonce import Store, open_store
from askonce.stores import database, unwaiting
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from tests.stores.another import another


@pytest.fixture(autouse=True)
def no_disk_is_slow(monkeypatch):
    """Whatever else the machine does."""
    monkeypatch.setattr(unwaiting, "SLOW", 3600.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def store(path):
    with SQLiteStore(path) as store:
        store.works_in_loops = True
        store.write({"a/1": b"x"})
        store.leases.take(["k"], "one", 60.0)
        yield store


def age(store, nanoseconds=5_000_000_123):
    """Let the log be as if it was last written to some seconds ago."""
    then = time.time_ns() - nanoseconds
    os.utime(store._database.log, ns=(then, then))


@pytest.fixture
def later(monkeypatch):
    """Let nothing be too fresh for a stamp."""
    monkeypatch.setattr(
        database,
        "time",
        types.SimpleNamespace(
            time_ns=lambda: time.time_ns() + 10**10, monotonic=time.monotonic, sleep=time.sleep
        ),
    )


def test_it_stays_the_same_as_long_as_nobody_writes(store):
    age(store)
    stamp = store.stamp()
    assert stamp is not None
    store.read(["a/1", "a/2"])
    store.read_at_once("a/1")
    list(store.keys())
    with SQLiteStore(store.path) as other:
        other.read(["a/1"])
    assert store.stamp() == stamp


def test_a_fresh_one_is_none(store):
    assert store.stamp() is None
    age(store, 99_000_000 - 10**9)
    assert store.stamp() is None, "it is of the future"


def test_file_systems_that_know_but_whole_seconds_give_none(store):
    whole = (int(time.time()) - 10) * 10**9
    os.utime(store._database.log, ns=(whole, whole))
    assert store.stamp() is None
    os.utime(store._database.log, ns=(whole, whole + 1))
    assert store.stamp() is not None


def test_without_a_log_there_is_none(store, later):
    assert store.stamp() is not None
    log = store._database.log
    log.rename(log.with_name("elsewhere"))
    assert store.stamp() is None
    log.with_name("elsewhere").rename(log)
    assert store.stamp() is not None
    store.close()
    assert store.stamp() is None


def test_an_empty_log_gives_none(store, later):
    store.vacuum()
    assert store._database.log.stat().st_size == 0
    assert store.stamp() is None


def test_only_posix_gives_one(store, later, monkeypatch):
    monkeypatch.setattr(database, "os", types.SimpleNamespace(name="nt", stat=os.stat))
    assert store.stamp() is None


def test_a_store_with_a_limit_gives_none(path, later):
    with SQLiteStore(path, max_bytes=2**20) as store:
        store.write({"a/1": b"x"})
        assert store.stamp() is None


def test_other_stores_give_none(tmp_path):
    assert MemoryStore().stamp() is None
    assert Store.stamp(MemoryStore()) is None
    for url in (f"file:///{tmp_path}/folder", f"tiered+sqlite:///{tmp_path}/n.db?far=memory://"):
        with open_store(url) as store:
            store.write({"a/1": b"x"})
            assert store.stamp() is None


def test_every_change_of_another_process_makes_another(store, path, later):
    source = random.Random(1)
    with another(path) as do:
        for number in range(150):
            changes = [
                ("write", "a/1", number.to_bytes(4, "big").hex()),
                ("write", f"b/{number}", ""),
                ("delete", f"b/{number - 1}"),
                ("claim", "c"),
                ("expire", f"a/{number}"),
            ]
            # What changes nothing (the same value once more, or a key that is not there) may not.
            for change in source.sample(changes, 4):
                age(store, 1_000_000_000 + source.randrange(10**9))
                before = store.stamp()
                # A log of which all is written back is begun from its start, with the same length.
                if source.random() < 0.3:
                    do("begin anew")
                do(*change)
                after = store.stamp()
                assert before is not None and after is not None
                assert after != before or change[0] == "delete"
            do("expire", "a/3")
            age(store)
            before = store.stamp()
            do("prune")
            assert store.stamp() != before
            if number % 30 == 0:
                age(store)
                before = store.stamp()
                do("vacuum")
                assert store.stamp() != before
                do("write", "a/1", "00")


@pytest.mark.parametrize("works_in_loops", [False, True])
def test_every_change_of_this_process_makes_another(store, later, works_in_loops):
    store.works_in_loops = works_in_loops

    def in_a_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    for number in range(100):
        for change in (
            lambda number=number: store.write({"a/1": str(number).encode()}),
            lambda: store.delete(["a/1"]),
            lambda: store.write_at_once({"a/1": b"x"}) or store.write({"a/1": b"x"}),
            lambda: in_a_thread(lambda: store.write({"a/1": b"y"})),
            lambda: store.clear("a/"),
            lambda: store.leases.take_at_once(["c"], "o", 1.0) or store.leases.take(["c"], "o", 1),
        ):
            age(store)
            before = store.stamp()
            change()
            assert before is not None and store.stamp() != before


def test_what_is_read_under_one_stamp_is_there_under_it(store, path):
    """As a look-up uses it, with times as they are: another process writes as fast as it can."""
    seen = {}
    with another(path) as do:
        for number in range(300):
            do("write", "a/1", number.to_bytes(4, "big").hex())
            stamp = store.stamp()
            (blob,) = store.read(["a/1"])
            assert blob == number.to_bytes(4, "big")
            if stamp is not None:
                assert seen.setdefault(stamp, blob) == blob


def test_behind_a_link_it_is_that_of_the_file(tmp_path, later):
    (tmp_path / "big disk").mkdir()
    real = tmp_path / "big disk" / "real.db"
    link = tmp_path / "store.db"
    link.symlink_to(real)
    # Left behind from before the file was moved.
    (tmp_path / "store.db-wal").write_bytes(b"old" * 100)
    with SQLiteStore(link) as store, SQLiteStore(real) as other:
        store.write({"a/1": b"x"})
        assert store.size() == other.size() > real.stat().st_size
        for number in range(20):
            age(other)
            before = store.stamp()
            other.write({"a/1": str(number).encode()})
            assert before is not None and store.stamp() != before


def test_a_file_without_a_log_is_written_to_directly(path, later):
    """`VACUUM INTO` makes such files, and an empty log beside one is none to SQLite."""
    with SQLiteStore(path) as store:
        store.write({"a/1": b"x"})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    path.with_name("store.db-wal").touch()
    with SQLiteStore(path) as store:
        store.works_in_loops = True
        for number in range(20):
            entries = {"a/1": str(number).encode()}
            before = store.stamp()
            assert store.write_at_once(entries)
            assert store.read_at_once("a/1") == [str(number).encode()]
            assert before is None or store.stamp() != before


def test_a_copy_over_the_file_is_seen_within_the_trusted_second(path, tmp_path):
    """To copy over a store in use is forbidden; it must not end the process or last for good."""
    with SQLiteStore(tmp_path / "copy.db") as other:
        other.write({"a/1": b"of the copy"})
    with SQLiteStore(path) as store:
        store.write({f"a/{number}": bytes(30_000) for number in range(100)})
        store.vacuum()
        assert store.read(["a/1"]) == [bytes(30_000)]
        shutil.copyfile(tmp_path / "copy.db", path)
        assert store.read(["a/1"]) == [b"of the copy"]
        assert store.stamp() is None
