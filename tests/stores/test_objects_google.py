"""`gs://`, by the XML API of Google Cloud Storage."""

import asyncio
import itertools

import pytest
from askonce import StoreError, open_store
from askonce.stores import objects_segments
from askonce.testing import Opener, StoreTests, run_store_machine
from tests.servers.gcs import Account, GCSServer, gcs, known
from tests.stores.objects import PATIENT, VECTORS, opened

__all__ = ["gcs"]

_numbers = itertools.count()


@pytest.fixture
def bucket(gcs: GCSServer) -> str:
    return gcs.make_bucket(f"google-{next(_numbers)}")


@pytest.fixture
def url(gcs: GCSServer, bucket: str) -> str:
    return gcs.url(bucket, "/some/prefix", **PATIENT)


class TestOnGoogle(StoreTests):
    @pytest.fixture
    def opener(self, url: str) -> Opener:
        return lambda: open_store(url)

    def test_behaves_like_a_dict(self, opener: Opener) -> None:
        run_store_machine(opener, examples=4, steps=8)


def test_vectors_are_written_and_read_with_few_requests(gcs, url):
    with open_store(url) as one, open_store(url) as other:
        del gcs.log[:]
        one.write(VECTORS)
        assert sorted(line.partition(" ")[0] for line in gcs.log) == ["LIST", "PUT", "PUT"]
        del gcs.log[:]
        assert other.read(list(VECTORS)) == list(VECTORS.values())
        assert sorted(line.partition(" ")[0] for line in gcs.log) == ["GET", "GET", "LIST"]


def test_a_log_of_several_pages_is_read_whole(gcs, url):
    with open_store(url) as one, open_store(url) as other:
        entries = {f"a/{number}": b"x" for number in range(50)}
        for key, value in entries.items():
            one.write({key: value})
        assert other.read(list(entries)) == list(entries.values())
        one.vacuum()
        assert set(other.keys()) == set(entries)


def test_of_two_who_merge_one_gives_up(url):
    with opened(url) as one, opened(url) as other:
        one.write({"a/1": b"x"})

        async def both():
            first, second = await one._log.look(), await other._log.look()
            parts = await one._log.whole(first.segments)
            draft = objects_segments.merge(parts, [])
            gone = {part.name for part in parts}
            done = await one._log.commit(first, gone, draft)
            return done, await other._log.commit(second, gone, draft)

        assert asyncio.run(both()) == (True, False)
        assert other.read(["a/1"]) == [b"x"]


def test_is_asked_again_where_it_asks_for_patience(gcs, url):
    with open_store(url) as store:
        store.write({"a/1": b"x"})
        gcs.refusals += [429, 503]
        store.write({"a/2": b"y"})
        gcs.refusals += [503]
        assert store.read(["a/1", "a/2"]) == [b"x", b"y"]
    assert gcs.refusals == []


def test_a_bucket_that_is_not_there(gcs):
    with opened(gcs.url("no-such-bucket", **PATIENT)) as store:
        for use in (
            lambda: store.read(["a/1"]),
            lambda: store.write({"a/1": b"x"}),
            lambda: store.leases.claim(["a"]),
        ):
            with pytest.raises(StoreError, match=r"gs://no-such-bucket.*create the bucket"):
                use()


def test_an_account_that_has_no_rights(gcs, url, tmp_path):
    with known(tmp_path, Account()), opened(url) as store:
        for use in (
            lambda: store.read(["a/1"]),
            lambda: store.write({"a/1": b"x"}),
            lambda: store.leases.claim(["a"]),
        ):
            with pytest.raises(StoreError, match="credentials") as caught:
                use()
            assert "Bearer" not in str(caught.value)


def test_an_account_may_name_the_server(gcs, bucket, tmp_path, monkeypatch):
    path = tmp_path / "account.json"
    path.write_text(gcs.account.file(gcs_base_url=gcs.endpoint))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(path))
    patient = "lookup_timeout=60&timeout=60"
    with open_store(f"gs://{bucket}?allow_http=true&{patient}") as store:
        store.write({"a/1": b"x"})
        assert store.read(["a/1"]) == [b"x"]
    assert any("askonce/log/" in name for name in gcs.buckets[bucket])


def test_an_account_may_be_in_the_environment_itself(gcs, url, monkeypatch):
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", gcs.account.file())
    with open_store(url) as store:
        store.write({"a/1": b"x"})
        assert store.read(["a/1"]) == [b"x"]
