import asyncio
import itertools
import os
import pathlib
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from askonce import StoreError, open_store
from askonce.core import codecs, entry
from askonce.stores import objects_log
from tests.alone import alone, fork, join
from tests.servers.s3 import S3Server
from tests.stores.objects import PATIENT, in_folder, opened

_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"shared-{next(_numbers)}")


@pytest.fixture
def folder_url(tmp_path: pathlib.Path) -> str:
    return in_folder(tmp_path / "objects")


@pytest.fixture(params=["s3", "folder"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "folder":
        return request.getfixturevalue("folder_url")
    server = request.getfixturevalue("s3")
    return server.url(request.getfixturevalue("bucket"), "/some/prefix", **PATIENT)


@pytest.fixture
def merging_often(monkeypatch):
    monkeypatch.setattr(objects_log, "MERGE_AT", 2)
    monkeypatch.setattr(objects_log, "_MERGE_SURELY_AT", 3)


def write_there(url: str, key: str) -> None:
    with open_store(url) as store:
        print(store.read(["a/shared"])[0].decode(), end="")
        store.write({key: b"theirs", "a/shared": b"theirs"})
        store.delete(["a/doomed"])


def test_processes_see_each_others_writes_at_once(url):
    with open_store(url) as store:
        store.write({"a/shared": b"mine", "a/doomed": b"x"})
        assert alone(write_there, url, "a/new") == "mine"
        assert store.read(["a/new", "a/shared", "a/doomed"]) == [b"theirs", b"theirs", None]
        store.write({"a/shared": b"mine again"})
        assert alone(write_there, url, "a/newer") == "mine again"


def test_written_in_one_colour_and_read_in_the_other_elsewhere(url):
    with open_store(url) as one, open_store(url) as other:
        one.write({"a/1": b"sync"})
        assert asyncio.run(other.aread(["a/1"])) == [b"sync"]
        asyncio.run(other.awrite({"a/1": b"async"}))
        assert one.read(["a/1"]) == [b"async"]


def use_after_fork(url: str) -> None:
    store = open_store(url)
    store.write({"a/1": b"x"})

    def use() -> None:
        with pytest.raises(StoreError, match="forked"):
            store.read(["a/1"])
        with pytest.raises(StoreError):
            open_store(url).write({"a/1": b"x"})

    join(fork(use))
    assert store.read(["a/1"]) == [b"x"]


def test_a_forked_process_is_told_at_once(folder_url):
    alone(use_after_fork, folder_url)


def test_threads_of_two_stores_write_delete_merge_and_vacuum(folder_url, merging_often):
    stores = [open_store(folder_url), open_store(folder_url)]

    def work(number: int) -> dict[str, bytes]:
        store = stores[number % 2]
        dice = random.Random(number)
        mine: dict[str, bytes] = {}
        for turn in range(25):
            part = {f"{number}/{dice.randrange(8)}": f"{turn}".encode() for _ in range(3)}
            store.write(part)
            mine |= part
            if turn % 3 == 0:
                gone = dice.choice(sorted(mine))
                store.delete([gone])
                del mine[gone]
            if turn % 8 == number:
                store.vacuum()
            keys = [f"{number}/{other}" for other in range(8)]
            assert store.read(keys) == [mine.get(key) for key in keys]
        return mine

    with ThreadPoolExecutor(4) as pool:
        expected = {key: value for mine in pool.map(work, range(4)) for key, value in mine.items()}
    for store in stores:
        keys = sorted(store.keys())
        assert dict(zip(keys, store.read(keys), strict=True)) == expected
        store.close()


@pytest.mark.parametrize("merged_before", [False, True])
def test_of_two_who_merge_at_once_one_gives_up(url, merged_before):
    with opened(url) as one, opened(url) as other:
        one.write({"a/1": b"old", "a/2": b"two"})
        if merged_before:
            other.vacuum()
        other.write({"a/1": b"new"})
        view = asyncio.run(one._log.look())
        draft = objects_log.merge(asyncio.run(one._log.whole(view.segments)), [])
        other.delete(["a/2"])
        asyncio.run(other._log.merge())
        assert not asyncio.run(one._log.commit(view, [], draft))
        for store in (one, other):
            assert store.read(["a/1", "a/2"]) == [b"new", None]
        one.vacuum()
        assert other.read(["a/1", "a/2"]) == [b"new", None]
        assert list(other.keys()) == ["a/1"]


def test_a_merge_that_was_asleep_changes_nothing(folder_url):
    """Its manifest has the number of one that was replaced, and deleted, long ago."""
    with opened(folder_url) as one, opened(folder_url) as other:
        one.write({"a/1": b"old", "a/2": b"two"})
        view = asyncio.run(one._log.look())
        draft = objects_log.merge(asyncio.run(one._log.whole(view.segments)), [])
        other.delete(["a/2"])
        other.write({"a/1": b"new"})
        for _ in range(3):
            other.vacuum()
        gone = [named.path for named in view.loose]
        assert asyncio.run(one._log.commit(view, gone, draft))
        for store in (one, other):
            assert store.read(["a/1", "a/2"]) == [b"new", None]
            assert list(store.keys()) == ["a/1"]


def test_pruning_spares_what_is_written_meanwhile(folder_url, monkeypatch):
    with opened(folder_url) as one, opened(folder_url) as other:
        one.write({"a/1": b"old", "a/2": b"old"}, expires=time.time() - 1)
        look = one._log.look

        async def look_and_lose_time():
            view = await look()
            await other.awrite({"a/1": b"new"})
            return view

        monkeypatch.setattr(one._log, "look", look_and_lose_time)
        assert one.prune(time.time()) == 2
        assert other.read(["a/1", "a/2"]) == [b"new", None]


@pytest.mark.parametrize("behind", [1e9, -1e9])
def test_a_wrong_clock_changes_nothing(url, monkeypatch, behind):
    with open_store(url) as one, open_store(url) as other:
        one.write({"a/1": b"first", "a/2": b"first", "a/3": b"first"})
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - int(behind * 1e9))
        other.write({"a/1": b"second"})
        other.delete(["a/2"])
        assert one.read(["a/1", "a/2"]) == [b"second", None]
        other.vacuum()
        monkeypatch.setattr(time, "time_ns", real)
        other.write({"a/2": b"third"})
        with open_store(url) as third:
            third.write({"a/1": b"third"})
            assert one.read(["a/1", "a/2", "a/3"]) == [b"third", b"third", b"first"]


def files(folder: pathlib.Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*-*")}


def test_a_vacuum_gives_back_the_space(folder_url, tmp_path):
    with open_store(folder_url) as store:
        for start in range(0, 100, 20):
            store.write({f"a/{start + n}": bytes([start + n]) * 20_000 for n in range(20)})
        store.delete([f"a/{number}" for number in range(60)])
        assert store.size() > 2_000_000
        store.vacuum()
        assert 800_000 < store.size() < 820_000
        packs = [name for name in files(tmp_path / "objects/askonce") if name.startswith("packs")]
        assert len(packs) == 1
        store.clear("")
        store.vacuum()
        assert store.size() < 1_000


def test_a_vacuum_spares_a_pack_whose_segment_is_being_written(folder_url, tmp_path):
    packs = tmp_path / "objects/askonce/packs"
    with open_store(folder_url) as store:
        store.write({"a/1": bytes(200_000)})
        young, old = (packs / f"{number:016x}-00000000" for number in (1, 2))
        for path in (young, old):
            path.write_bytes(b"x")
        os.utime(old, (time.time() - 4_000, time.time() - 4_000))
        store.vacuum()
        assert young.exists()
        assert not old.exists()
        assert store.read(["a/1"]) == [bytes(200_000)]


def test_prunes_by_what_the_writer_said(folder_url):
    now = time.time()
    blob = entry.pack(entry.Entry(b"x", codecs.JSON, now, now + 100))
    with open_store(folder_url) as store:
        store.write({"a/1": blob}, expires=now + 100)
        assert store.prune(now) == 0
        assert store.prune(now + 100) == 1
        assert list(store.keys()) == []


def test_a_reader_goes_on_while_others_pack_anew(folder_url):
    """What was moved after the look is looked for again."""
    with opened(folder_url) as one, opened(folder_url) as other:
        model = {f"a/{number}": bytes([number]) * 20_000 for number in range(30)}
        one.write(model)
        look = one._log.look
        turns = iter([["a/0"], ["a/1"]])

        async def look_and_lose_time():
            view = await look()
            if gone := next(turns, None):
                await other.adelete(gone + [f"a/{number}" for number in range(2, 12)])
                await other.avacuum()
            return view

        one._log.look = look_and_lose_time
        wanted = [f"a/{number}" for number in range(12, 30)]
        assert one.read(wanted) == [model[key] for key in wanted]
