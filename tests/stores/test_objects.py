import asyncio
import itertools
import pathlib
from collections import Counter

import pytest
from askonce import open_store
from askonce.stores import objects_batch, objects_log, objects_vacuum
from askonce.testing import Opener, StoreTests, run_store_machine
from tests.servers.s3 import S3Server
from tests.stores.objects import PATIENT, VECTORS, in_folder, opened

_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"bucket-{next(_numbers)}")


@pytest.fixture
def folder_url(tmp_path: pathlib.Path) -> str:
    return in_folder(tmp_path / "objects")


class TestOnS3(StoreTests):
    @pytest.fixture
    def opener(self, s3: S3Server, bucket: str) -> Opener:
        return lambda: open_store(s3.url(bucket, "/some/prefix", **PATIENT))

    def test_behaves_like_a_dict(self, opener: Opener) -> None:
        run_store_machine(opener, examples=4, steps=8)


class TestInAFolder(StoreTests):
    @pytest.fixture
    def opener(self, folder_url: str) -> Opener:
        return lambda: open_store(folder_url)


@pytest.fixture
def merging_often(monkeypatch):
    monkeypatch.setattr(objects_log, "MERGE_AT", 2)
    monkeypatch.setattr(objects_log, "_MERGE_SURELY_AT", 3)


class TestMergingAllTheTime(StoreTests):
    """With values in packs of a few bytes, and every third write merging."""

    @pytest.fixture
    def opener(self, folder_url: str, merging_often, monkeypatch) -> Opener:
        monkeypatch.setattr(objects_batch, "_TOGETHER", 10)
        monkeypatch.setattr(objects_batch, "_PACK", 100)
        monkeypatch.setattr(objects_log, "_ROWS_AT_MOST", 2_000)
        monkeypatch.setattr(objects_log, "_KEPT_WHOLE", 300)
        monkeypatch.setattr(objects_vacuum, "_FULL_PACK", 200)
        return lambda: open_store(folder_url)

    @pytest.fixture(autouse=True)
    def packs_for_many(self, request, opener, monkeypatch):
        if "behaves_like_a_dict" not in request.node.name:
            monkeypatch.setattr(objects_batch, "_PACK", 1_000_000)
            monkeypatch.setattr(objects_vacuum, "_FULL_PACK", 1_000_000)


# How many requests


def requests_of(server: S3Server, work) -> Counter:
    before = len(server.log())
    work()
    lines = [line for line in server.log()[before:].splitlines() if "HTTP/1.1" in line]
    return Counter(
        "LIST" if "list-type" in line else line.split('"')[1].split()[0] for line in lines
    )


def test_a_thousand_entries_take_three_requests_either_way(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    with open_store(url) as one, open_store(url) as other:
        writing = requests_of(s3, lambda: one.write(VECTORS))
        assert writing == {"LIST": 1, "PUT": 2}
        keys = [*VECTORS, *(f"team/embedding/model/missing-{number}" for number in range(100))]
        expected = [*VECTORS.values(), *[None] * 100]
        values = []
        reading = requests_of(s3, lambda: values.append(other.read(keys)))
        assert values == [expected]
        assert reading == {"LIST": 1, "GET": 2}
        again = requests_of(s3, lambda: values.append(other.read(keys)))
        assert values[1] == expected
        assert again == {"LIST": 1, "GET": 1}


def test_one_answer_takes_two_requests(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    with open_store(url) as one, open_store(url) as other:
        assert requests_of(s3, lambda: one.read(["a/1"])) == {"LIST": 1}
        assert requests_of(s3, lambda: one.write({"a/1": b"answer"})) == {"LIST": 1, "PUT": 1}
        assert requests_of(s3, lambda: other.read(["a/1"])) == {"LIST": 1, "GET": 1}
        assert requests_of(s3, lambda: other.read(["a/1"])) == {"LIST": 1}
        assert requests_of(s3, lambda: one.delete(["a/missing"])) == {"LIST": 1}


def test_many_answers_written_one_by_one_are_merged(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    answers = {f"a/{number}": f"answer {number}".encode() for number in range(200)}
    with open_store(url) as one, open_store(url) as other:
        for key, value in answers.items():
            one.write({key: value})
        values = []
        reading = requests_of(s3, lambda: values.append(other.read(list(answers))))
        assert values == [list(answers.values())]
        assert reading["LIST"] == 1
        assert reading["GET"] <= objects_log._MERGE_SURELY_AT + 10
        one.vacuum()
        with open_store(url) as third:
            reading = requests_of(s3, lambda: third.read(list(answers)))
        assert reading == {"LIST": 1, "GET": 3}


def test_who_reads_all_in_turn_gets_each_pack_once(s3, bucket):
    """Merged segments tell of many packs, and their rows are in the order of digests."""
    entries = {f"a/{number}": number.to_bytes(4, "big") * 1_000 for number in range(4_000)}
    parts = [dict(itertools.islice(entries.items(), at, at + 400)) for at in range(0, 4_000, 400)]
    with opened(s3.url(bucket, **PATIENT)) as store:
        for part in parts:
            store.write(part)
        asyncio.run(store._log.merge())
        keys = list(store.keys())
        assert set(keys) == set(entries)

        def read():
            for at in range(0, 4_000, 400):
                part = keys[at : at + 400]
                assert store.read(part) == [entries[key] for key in part]

        reading = requests_of(s3, read)
        assert reading == {"LIST": 10, "GET": 10}


async def test_tasks_that_want_the_same_get_it_once(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    with open_store(url) as one, open_store(url) as other:
        for number in range(10):
            await one.awrite({f"a/{number}": b"x"})
        before = len(s3.log())
        await asyncio.gather(*(other.aread([f"a/{number}"]) for number in range(10)))
        assert s3.log()[before:].count("/log/l") == 10


def test_a_batch_of_packs_may_begin_with_an_empty_value(folder_url):
    entries = {"a/empty": b"", "a/large": bytes(200_000)}
    with open_store(folder_url) as store:
        store.write(entries)
        assert store.read(list(entries)) == list(entries.values())
