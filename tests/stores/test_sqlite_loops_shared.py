"""Loops, threads and processes at one SQLite file: forks, races, the end, and leases."""

import asyncio
import contextlib
import itertools
import threading

import pytest

from askonce import StoreError
from askonce.stores import sqlite, unwaiting
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.sqlite_leases import SQLiteLeases
from tests.alone import Gate, alone, fork, join
from tests.stores.in_loops import InLoop, kept, tell


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


def test_what_comes_after_the_end_opens_nothing_anew(tmp_path):
    store = InLoop(tmp_path / "store.db")
    store.leases.take(["k"], "one", 60.0)
    store.close()
    for use in (
        lambda: store.write_at_once({"a/1": b"x"}),
        lambda: store.read_at_once("a/1"),
        lambda: store.leases.take_at_once(["k"], "one", 60.0),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]
    assert tell(store, {"a/1": b"x"}) == (False, ["store_failed"])


def test_it_is_closed_while_a_loop_works(tmp_path):
    for turn in range(20):
        folder = tmp_path / str(turn)
        store = InLoop(folder / "store.db")
        started, done = threading.Event(), []

        def work(store=store, started=started, done=done):
            with contextlib.suppress(StoreError):
                for number in itertools.count():
                    is_written = store.write_at_once({f"a/{number}": b"x"})
                    store.read_at_once(f"a/{number}")
                    if not is_written:
                        store.write({f"a/{number}": b"x"})
                    done.append(f"a/{number}")
                    started.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert started.wait(30)
        store.close()
        thread.join(30)
        assert not thread.is_alive()
        assert [path.name for path in folder.iterdir()] == ["store.db"]
        assert set(kept(folder / "store.db")) >= set(done)


def fork_amid_loops(path):
    store = InLoop(path)
    store.leases.take(["k"], "one", 60.0)
    over = threading.Event()

    async def hammer(thread):
        for number in itertools.count():
            if over.is_set():
                return
            await store.awrite({f"b/{thread}": b"x" * 2000})
            key = f"{thread}-{number}"
            if store.leases.take_at_once([key], "one", 60.0):
                store.leases.drop([key], "one")

    threads = [
        threading.Thread(target=lambda number=number: asyncio.run(hammer(number)))
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(15):

            def work(number=number):
                for turn in range(20):
                    entries = {f"a/{number}-{turn}": b"x"}
                    if not store.write_at_once(entries):
                        store.write(entries)
                assert store.leases.claim([f"child-{number}"]) == [f"child-{number}"]

            join(fork(work))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(list(store.keys("a/"))) == 300
    store.close()


def test_forks_amid_loops(path):
    alone(fork_amid_loops, path)


def race(path):
    gate = Gate()

    def work(who):
        gate.wait()
        with InLoop(path) as store:
            for turn in range(300):
                key = f"k/{turn}"
                at_once = store.leases.take_at_once([key], who, 600.0)
                if at_once or (at_once is None and store.leases.take([key], who, 600.0)):
                    asyncio.run(store.awrite({f"winner/{turn}/{who}": b"x"}))
                asyncio.run(store.awrite({f"b/{turn}/{who}": b"x", "b/last": who.encode()}))

    children = [fork(lambda who=who: work(who)) for who in ("one", "other")]
    gate.open()
    join(*children)
    with SQLiteStore(path) as store:
        winners = [key.split("/")[1] for key in store.keys("winner/")]
        assert sorted(winners, key=int) == [str(turn) for turn in range(300)]
        assert len(list(store.keys("b/"))) == 601


def test_two_processes_exclude_each_other_and_lose_nothing(path):
    with SQLiteStore(path):
        pass
    alone(race, path)


def test_leases_work_on_what_the_store_itself_uses(store):
    assert store.leases.take(["a"], "one", 60.0) == ["a"]
    assert store.leases.take_at_once(["b"], "one", 60.0) == ["b"]
    assert store.leases.__dict__["_unwaiting"] is store.__dict__["_unwaiting"]
    store.leases.close()
    assert store.write_at_once({"a/1": b"x"})


def test_leases_with_a_file_of_their_own_close_it(tmp_path):
    leases = SQLiteLeases(tmp_path / "leases.db")
    leases.take(["a"], "one", 60.0)
    assert leases.take_at_once(["b"], "one", 60.0) == ["b"]
    leases.close()
    with pytest.raises(StoreError, match="closed"):
        leases.take(["c"], "one", 60.0)
    assert [path.name for path in tmp_path.iterdir()] == ["leases.db"]


def test_leases_do_not_lengthen_the_log_of_a_store_with_a_limit(path):
    with SQLiteStore(path, max_bytes=2**20) as store:
        store.leases.take(["a"], "one", 60.0)
        pages = "PRAGMA wal_autocheckpoint"
        (found,) = store._database.run(lambda connection: connection.execute(pages).fetchone())
        assert found * sqlite.PAGE_SIZE == 2**17
