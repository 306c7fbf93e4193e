"""The leases of the other stores' tests, in a bucket and in a folder, and what is their own."""

import itertools
import json
import threading
import time
from collections.abc import Iterator

import pytest
from askonce import open_store
from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.stores import objects_leases
from tests.servers.gcs import gcs
from tests.servers.s3 import S3Server
from tests.stores.objects import PATIENT, in_folder
from tests.test_leases import *
from tests.test_leases import leases

_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"leased-{next(_numbers)}")


def opened(url: str) -> Iterator[tuple[Store, Store]]:
    """Open a store twice, without the guards, which have leases of their own."""
    with open_store(url) as one, open_store(url) as other:
        yield one.store, other.store


@pytest.fixture(params=["s3", "gcs", "folder"])
def pair(request, tmp_path) -> Iterator[tuple[Store, Store]]:
    if request.param == "folder":
        yield from opened(in_folder(tmp_path / "objects"))
    else:
        server = request.getfixturevalue(request.param)
        name = server.make_bucket(f"leased-{next(_numbers)}")
        yield from opened(server.url(name, **PATIENT))


@pytest.fixture
def s3_pair(s3, bucket) -> Iterator[tuple[Store, Store]]:
    yield from opened(s3.url(bucket, **PATIENT))


def test_the_clocks_of_hosts_do_not_matter(s3_pair, monkeypatch):
    one, other = map(leases, s3_pair)
    one.claim(["a"])
    real = time.time()
    for skew in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda skew=skew: real + skew)
        assert other.claim(["a"]) == []


@pytest.fixture
def clock(monkeypatch):
    """Give the seconds that the watchers' own clock is ahead, to be changed."""
    ahead = [0.0]
    real = time.monotonic
    monkeypatch.setattr(objects_leases.time, "monotonic", lambda: real() + ahead[0])
    return ahead


def test_a_lease_is_taken_over_from_who_was_not_heard_of_for_its_time(s3_pair, clock):
    one, other = map(leases, s3_pair)
    assert one.take(["a", "b"], "the dead", 100.0) == ["a", "b"]
    clock[0] = 1_000.0
    assert other.take(["a", "b"], "the heir", 100.0) == []  # the first time that it looks
    clock[0] = 1_099.0
    assert other.take(["a", "b"], "the heir", 100.0) == []
    clock[0] = 1_200.0
    assert other.take(["a", "b"], "the heir", 100.0) == ["a", "b"]
    assert one.take(["a"], "the dead", 100.0) == []


def test_who_renews_is_not_dead(s3_pair, clock):
    one, other = map(leases, s3_pair)
    one.take(["a"], "the slow", 100.0)
    for now in range(0, 1_000, 90):
        clock[0] = float(now)
        assert other.take(["a"], "the heir", 100.0) == []
        one.renew(["a"], "the slow", 100.0)
    one.drop(["a"], "the slow")
    one.take(["a"], "the slow", 100.0)
    clock[0] += 90.0
    assert other.take(["a"], "the heir", 100.0) == []


def test_what_died_leaves_the_table(s3_pair, s3, bucket, clock):
    one, other = map(leases, s3_pair)
    keys = [f"a/{number}" for number in range(200)]
    one.take(keys, "the dead", 100.0)
    assert other.take(["b"], "another", 1_000.0) == ["b"]
    clock[0] = 150.0
    other.take([f"c/{number}" for number in range(200)], "another", 1_000.0)
    other.take([f"c/{number}" for number in range(200)], "another", 1_000.0)
    clock[0] = 300.0
    other.take([f"d/{number}" for number in range(200)], "another", 1_000.0)
    holders = set()
    for shard in "0123456789abcdef":
        _, table = s3.ask("GET", f"/{bucket}/askonce/leases/{shard}")
        holders |= {held[0] for held in json.loads(table)["held"].values()}
    assert holders == {"another"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"held": 1}', b'{"held": {"a": [1]}}'])
def test_a_damaged_table_is_an_empty_one(s3_pair, s3, bucket, content):
    one, other = map(leases, s3_pair)
    for shard in "0123456789abcdef":
        s3.ask("PUT", f"/{bucket}/askonce/leases/{shard}", content)
    assert one.claim(["a", "b"]) == ["a", "b"]
    assert other.claim(["a", "c"]) == ["c"]


def test_many_who_claim_at_once_get_each_key_once(s3, bucket):
    keys = [f"a/{number}" for number in range(40)]
    stores = [open_store(s3.url(bucket, **PATIENT)) for _ in range(4)]
    granted: list[str] = []
    start = threading.Barrier(len(stores))

    def claim(store: Store) -> None:
        start.wait()
        granted.extend(leases(store).claim(keys))

    threads = [threading.Thread(target=claim, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(granted) == sorted(keys)
    for store in stores:
        store.close()


def test_a_silent_server_grants_nothing_and_says_so(s3, bucket):
    with open_store(s3.url(bucket, lookup_timeout="0.1", timeout="0.1")) as store:
        with s3.paused(), pytest.raises(StoreError, match=r"0\.1 seconds"):
            leases(store.store).claim(["a"])
