"""What an event loop does on an SQLite file itself: the same as threads, and it never waits."""

import asyncio
import contextlib
import itertools
import os
import resource
import sqlite3
import threading
import types

import pytest

from askonce import StoreError
from askonce.core.entry import NEVER
from askonce.core.store import SLOW
from askonce.core.flow import Call, Claim, Write, arun
from askonce.stores import sqlite, unwaiting
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.sqlite_leases import SQLiteLeases
from askonce.testing import Opener, StoreTests
from tests.alone import Gate, alone, fork, join
from tests.stores import disks
from tests.stores.in_loops import InLoop, kept, tell


class TestInLoop(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        return lambda: InLoop(tmp_path / "store.db")


@pytest.fixture(autouse=True)
def no_disk_is_slow(monkeypatch):
    """Whatever else the machine does."""
    monkeypatch.setattr(unwaiting, "SLOW", 3600.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def store(path):
    with InLoop(path) as store:
        store.leases.works_in_loops = True
        yield store


def test_what_is_written_at_once_is_what_a_thread_writes(store, path, tmp_path):
    batches = [
        ({"a/1": b"one", "a/2": b""}, 5.0),
        ({"a/1": b"two"}, NEVER),
        ({"a/3": bytes(range(256)) * 100}, 1e12),
        ({"a/3": b"short", "a/é": b"\0"}, NEVER),
        ({}, NEVER),
    ]
    with SQLiteStore(tmp_path / "other.db") as other:
        for entries, expires in batches:
            assert store.write_at_once(entries, expires=expires)
            other.write(entries, expires=expires)
            assert kept(path) == kept(other.path)
    assert store.read_at_once("a/1") == [b"two"]


@pytest.mark.parametrize(("length", "is_small"), [(60_000, True), (65_536, True), (65_537, False)])
def test_only_what_is_small_is_written_at_once(store, path, length, is_small):
    assert store.write_at_once({"a/1": bytes(length)}) == is_small
    assert bool(kept(path)) == is_small


def test_a_store_that_no_server_uses_leaves_all_to_threads(path):
    with SQLiteStore(path) as store:
        assert not store.write_at_once({"a/1": b"x"})
        assert store.read_at_once("a/1") is None


def test_with_a_limit_all_is_written_by_threads(path):
    with InLoop(path, max_bytes=2**20) as store:
        assert not store.write_at_once({"a/1": b"x"})


async def test_a_loop_leaves_to_a_thread_what_another_process_holds_up(store, path):
    await store.awrite({"a/1": b"before"})
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not store.write_at_once({"a/1": b"after"})
        writing = asyncio.ensure_future(store.awrite({"a/1": b"after"}))
        await asyncio.sleep(0.05)
        assert not writing.done()
        assert store.read_at_once("a/1") == [b"before"]
        other.execute("COMMIT")
    await writing
    assert store.read_at_once("a/1") == [b"after"]


async def test_a_loop_leaves_to_a_thread_what_another_thread_holds_up(store):
    await store.awrite({"a/1": b"before"})
    inside, may_go = threading.Event(), threading.Event()

    def hold(connection):
        inside.set()
        assert may_go.wait(30)

    holding = asyncio.ensure_future(asyncio.to_thread(store._database.change, hold))
    await asyncio.to_thread(inside.wait, 30)
    assert not store.write_at_once({"a/1": b"after"})
    assert store.leases.take_at_once(["k"], "one", 60.0) is None
    assert store.read_at_once("a/1") == [b"before"]
    writing = asyncio.ensure_future(store.awrite({"a/1": b"after"}))
    may_go.set()
    await holding
    await writing
    assert store.read_at_once("a/1") == [b"after"]


def test_no_queue_grows_behind_whoever_holds_the_file(store, monkeypatch):
    monkeypatch.setattr("askonce.stores.database._BUSY_SECONDS", 0.01)
    with store._database._writing, pytest.raises(StoreError, match="another thread is writing"):
        store.write({"a/1": b"x"})
    store.write({"a/1": b"x"})


async def test_who_goes_away_does_not_hold_up_the_loop(store, path):
    """A flow that ends gives back its claims, even if another process writes for long."""

    def flow():
        yield Claim(["k"])
        yield Call(None)

    async def call(_):
        asking.set()
        await asyncio.Event().wait()

    asking = asyncio.Event()
    store.leases.claim(["first"])
    task = asyncio.ensure_future(arun(flow(), store=store, call=call, observe=lambda event: None))
    await asking.wait()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        other.execute("COMMIT")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.leases.take(["k"], "other", 60.0) == ["k"]


@pytest.mark.parametrize("message", ["database or disk is full", "disk I/O error"])
def test_what_fails_is_told_by_a_thread(store, path, monkeypatch, message):
    def fail(*_):
        failed_in.append(threading.current_thread())
        raise sqlite3.OperationalError(message)

    failed_in = []
    with monkeypatch.context() as patches:
        patches.setattr(sqlite, "write", fail)
        assert tell(store, {"a/1": b"x"}) == (False, ["store_failed"])
    assert len(set(failed_in)) == 2
    assert not store._unwaiting._database._connections._idle, "a connection that failed is kept"
    assert tell(store, {"a/1": b"x"}) == (True, [])
    assert kept(path)["a/1"][0] == b"x"


def fill_the_disk(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = InLoop(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    written = {}
    for number in itertools.count():
        entries = {f"a/{number}": bytes([number % 256]) * 30_000}
        stored, kinds = tell(store, entries)
        if not stored:
            assert kinds == ["store_failed"]
            break
        assert kinds == []
        written |= entries
    assert len(written) > 3
    assert store.read(list(written)) == list(written.values())
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tell(store, {"a/last": b"x"}) == (True, [])
    assert store.write_at_once({"a/very last": b"x"})
    store.close()
    assert set(kept(path)) == {*written, "a/last", "a/very last"}


def test_a_full_disk_is_told_and_forgotten_when_there_is_room(path):
    alone(fill_the_disk, path)


def write_what_may_only_be_read(path):
    with InLoop(path) as store:
        assert tell(store, {"a/2": b"x"}) == (False, ["store_failed"])
        assert not store.write_at_once({"a/2": b"x"})
        assert store.read_at_once("a/1") == [b"x"]


def test_a_file_that_may_only_be_read_is_told(tmp_path):
    folder = tmp_path / "forbidden"
    path = folder / "store.db"
    with SQLiteStore(path) as store:
        store.write({"a/1": b"x"})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # As `VACUUM INTO` makes a copy; what has a log cannot be read where none can be made.
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        prefix = disks.WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else ()
        alone(write_what_may_only_be_read, path, prefix=prefix)
    finally:
        folder.chmod(0o700)


@pytest.fixture
def short_log(monkeypatch):
    monkeypatch.setattr(sqlite, "LOG_BYTES", 2**17)


async def test_the_log_stays_short_under_writes_at_once(short_log, path):
    longest = 0
    with InLoop(path, page_size=4096) as store:
        for number in range(3000):
            await store.awrite({f"a/{number % 50}": number.to_bytes(4, "big") * 500})
            longest = max(longest, store._database.log.stat().st_size)
        assert store.read(["a/49"]) == [(2999).to_bytes(4, "big") * 500]
    assert longest < 3_000_000


async def test_the_log_stays_short_under_claims_alone(short_log, path):
    """An answer that may not be kept is claimed and released, and nothing is written."""
    longest = 0
    with InLoop(path, page_size=4096) as store:
        store.leases.works_in_loops = True
        for number in range(2000):
            assert await store.leases.aclaim([f"k/{number}"]) == [f"k/{number}"]
            await store.leases.arelease([f"k/{number}"])
            longest = max(longest, store._database.log.stat().st_size)
    assert longest < 3_000_000


def test_a_slow_disk_is_left_to_threads_for_a_while(store, monkeypatch):
    monkeypatch.setattr(unwaiting, "SLOW", SLOW)
    clock = iter([100.0, 100.03, 100.5, 100.9, 101.0, 101.0, 101.1, 101.1])
    monkeypatch.setattr(unwaiting, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    assert store.write_at_once({"a/1": b"x"})
    assert not store.write_at_once({"a/2": b"x"})
    assert store.read_at_once("a/1") is None
    assert store.write_at_once({"a/3": b"x"})
    assert store.read_at_once("a/1") == [b"x"]
