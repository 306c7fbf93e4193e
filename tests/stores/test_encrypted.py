"""Encryption over any store: conformance, rotation, dropped keys, and what a reader may learn."""

import base64
import os
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce import InputError, StoreError, encrypted, open_store
from askonce.core import entry
from askonce.errors import StoreRefusedError
from askonce.stores.encrypted import EncryptedStore
from askonce.stores.memory import MemoryStore
from askonce.testing import Opener, StoreTests
from tests.servers.redis import give_redis  # noqa: F401
from tests.stores.redis_asking import PATIENT

KEY, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
TEXT = base64.b64encode(KEY).decode()


class TestSQLite(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: encrypted(f"sqlite:///{tmp_path}/cache.db", keys=KEY)


class TestFileWithTwoKeys(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: encrypted(f"file:///{tmp_path}/cache", keys=[KEY, OTHER])


class TestLMDB(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: encrypted(f"lmdb:///{tmp_path}/cache", keys=KEY)


class TestOverTiers(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: encrypted(
            askonce.tiered("memory://", f"sqlite:///{tmp_path}/far.db", fresh_within=0), keys=KEY
        )


class TestNearTierOverAnEncryptedOne(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: askonce.tiered(
            "memory://", encrypted(f"sqlite:///{tmp_path}/far.db", keys=KEY), fresh_within=0
        )


class TestRedis(StoreTests):
    @pytest.fixture
    def opener(self, give_redis) -> Opener:
        server = give_redis("redis8")
        return lambda: encrypted(server.url(PATIENT), keys=KEY)


def content(store: EncryptedStore) -> dict[str, bytes]:
    """Give what the store below has."""
    names = list(store.store.keys())
    return dict(zip(names, store.store.read(names), strict=True))


def over(below, keys) -> EncryptedStore:
    return encrypted(below, keys=keys)


@pytest.fixture
def below():
    return MemoryStore()


KEYS = st.text("ab/~.", min_size=1, max_size=8).map(lambda text: f"ns/{text}")


@given(
    st.dictionaries(KEYS, st.binary(max_size=100)),
    st.binary(max_size=30).map(b"a secret: ".__add__),
)
def test_a_reader_learns_neither_values_nor_ends_of_keys(entries, secret):
    below = MemoryStore()
    store = over(below, KEY)
    store.write({key: value + secret for key, value in entries.items()})
    for name, blob in content(store).items():
        assert secret not in blob
        assert name not in entries
        assert name.rpartition("/")[0] in {key.rpartition("/")[0] for key in entries}
    assert sorted(store.keys()) == sorted(entries)


def test_the_same_value_looks_different_each_time(below):
    store = over(below, KEY)
    store.write({"ns/a": b"value"})
    first = content(store)
    store.write({"ns/a": b"value"})
    (name,) = first
    assert content(store).keys() == first.keys()
    assert content(store)[name] != first[name]


def test_a_guess_cannot_be_tested_without_the_key(below):
    over(below, KEY).write({"ns/chat/m/guess": b"value"})
    stranger = over(below, OTHER)
    assert stranger.read(["ns/chat/m/guess"]) == [None]
    assert list(stranger.keys()) == []
    assert not set(content(stranger)) & {
        seal.name("ns/chat/m/guess") for seal in stranger._seals.of("ns/x")
    }


def test_namespaces_have_nothing_in_common(below):
    store = over(below, KEY)
    store.write({"one/a": b"1", "two/a": b"2"})
    ends = [name.partition("/")[2] for name in content(store)]
    assert len(set(ends)) == 2


def test_a_value_that_is_moved_is_not_read(below):
    store = over(below, KEY)
    store.write({"ns/a": b"1", "ns/b": b"2"})
    one, two = content(store).items()
    below.write({one[0]: two[1], two[0]: one[1], f"{one[0]}x": one[1]})
    assert store.read(["ns/a", "ns/b"]) == [None, None]
    assert list(store.keys()) == []


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_value_that_is_changed_is_not_read(place, change):
    below = MemoryStore()
    store = over(below, KEY)
    store.write({"ns/a": b"value" * 5})
    ((name, blob),) = content(store).items()
    damaged = bytearray(blob)
    damaged[place % len(damaged)] ^= change
    below.write({name: bytes(damaged)})
    assert store.read(["ns/a"]) in ([None], [b"value" * 5])  # the latter for a header's zeros
    (found,) = store.read(["ns/a"])
    assert found is None


async def test_rotation_reads_what_older_keys_wrote(below):
    over(below, KEY).write({"ns/a": b"old", "ns/b": b"old"})
    store = over(below, [NEW, KEY])
    assert store.read(["ns/a", "ns/b"]) == [b"old", b"old"]
    assert sorted(store.keys()) == ["ns/a", "ns/b"]
    await store.awrite({"ns/a": b"new"})
    assert sorted(store.keys()) == ["ns/a", "ns/b"]
    assert await store.aread(["ns/a", "ns/b"]) == [b"new", b"old"]
    assert len(content(store)) == 2
    assert over(below, NEW).read(["ns/a", "ns/b"]) == [b"new", None]
    store.delete(["ns/b"])
    assert over(below, KEY).read(["ns/a", "ns/b"]) == [None, None]


def test_what_was_overwritten_does_not_come_back(below):
    over(below, KEY).write({"ns/a": b"old"})
    store = over(below, [NEW, KEY])
    store.write({"ns/a": b"new"})
    over(below, NEW).delete(["ns/a"])
    assert store.read(["ns/a"]) == [None]


def test_without_its_key_a_namespace_is_unreadable(below):
    both = over(below, {"one": KEY, "two": [NEW, OTHER]})
    both.write({"one/a": b"1", "two/a": b"2"})
    left = over(below, {"two": [NEW, OTHER]})
    assert left.read(["one/a", "two/a"]) == [None, b"2"]
    assert list(left.keys()) == ["two/a"]
    with pytest.raises(StoreRefusedError, match="no key for the namespace of 'one'"):
        left.write({"one/a": b"again"})
    assert left.clear("one/") == 1
    assert both.read(["one/a", "two/a"]) == [None, b"2"]


def test_all_other_namespaces_may_have_a_key_too(below):
    store = over(below, {"one": KEY, "*": [NEW, OTHER]})
    store.write({"one/a": b"1", "two/a": b"2", "alone": b"3"})
    assert over(below, KEY).read(["one/a", "two/a", "alone"]) == [b"1", None, None]
    assert over(below, NEW).read(["one/a", "two/a", "alone"]) == [None, b"2", b"3"]
    assert sorted(over(below, {"*": NEW}).keys()) == ["alone", "two/a"]


def test_tiers_over_it_retire_for_each_other_what_only_they_can_read(tmp_path):
    url = f"sqlite:///{tmp_path}/far.db"
    keys = {"one": KEY, "*": OTHER}
    here, there = (
        askonce.tiered("memory://", encrypted(url, keys=keys), fresh_within=0) for _ in range(2)
    )
    here.write({"one/secret-digest": b"1"})
    assert there.read(["one/secret-digest"]) == [b"1"]
    here.delete(["one/secret-digest"])
    assert there.read(["one/secret-digest"]) == [None]
    assert all(b"secret-digest" not in file.read_bytes() for file in tmp_path.iterdir())
    here.close()
    there.close()


def test_a_value_that_the_cipher_does_not_take_is_refused(below, monkeypatch):
    monkeypatch.setattr("askonce.stores.seals._LONGEST", 10)
    with pytest.raises(StoreRefusedError, match="at most 10 bytes"):
        over(below, KEY).write({"ns/a": bytes(11)})


def test_a_namespace_without_a_key_goes_on_without_a_cache(below):
    told, calls = [], []

    def embed(texts):
        calls.extend(texts)
        return np.ones((len(texts), 3), np.float32)

    cache = askonce.EmbeddingCache(
        embed, model="m", store=over(below, {}), namespace="x", observe=told.append
    )
    for _ in range(2):
        assert cache.embed(["a"]).shape == (1, 3)
    assert calls == ["a", "a"]
    assert "store_failed" in {event.kind for event in told}


def test_expiry_is_seen_by_the_store_below(tmp_path):
    with encrypted(f"file:///{tmp_path}/cache", keys=KEY) as store:
        blobs = [entry.pack(entry.Entry(b"{}", 16, 1.0, end)) for end in (100.0, entry.NEVER)]
        store.write({"ns/a": blobs[0]}, expires=100.0)
        store.write({"ns/b": blobs[1]})
        assert store.prune(200.0) == 1
        assert store.read(["ns/a", "ns/b"]) == [None, blobs[1]]


def test_holders_of_one_key_share_leases_and_nobody_sees_what_for(tmp_path):
    url = f"sqlite:///{tmp_path}/cache.db"
    with encrypted(url, keys=KEY) as one, encrypted(url, keys=KEY) as other:
        assert one.leases.claim(["ns/a", "ns/b"]) == ["ns/a", "ns/b"]
        assert other.leases.claim(["ns/b", "ns/c"]) == ["ns/c"]
        one.leases.release(["ns/b"])
        assert other.leases.claim(["ns/b"]) == ["ns/b"]
    assert all(b"ns/a" not in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_no_file_tells_what_was_asked_or_answered(tmp_path, scheme):
    def embed(texts):
        return np.full((len(texts), 4), 0.1234567, np.float32)

    with encrypted(f"{scheme}:///{tmp_path}/cache", keys=KEY) as store:
        cache = askonce.EmbeddingCache(embed, model="m", store=store, namespace="team")
        answers = cache.embed(["a secret question"])
        ends = [bytes.fromhex(key.rpartition("/")[2]) for key in store.keys()]
        store.leases.claim(list(store.keys()))
        whole = b"".join(
            str(path).encode() + path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
        )
        store.leases.release(list(store.keys()))
    assert len(ends) == 1
    assert b"team/embedding/m/" in whole
    for secret in (answers[0].tobytes(), b"a secret question", *ends):
        assert secret not in whole
        assert secret.hex().encode() not in whole
        assert secret[:8] not in whole  # as the binding in an entry's header would be


def test_a_cache_over_it_hits(tmp_path):
    calls = []

    def embed(texts):
        calls.extend(texts)
        return np.array([[float(len(text)), 0.1] for text in texts], np.float32)

    for _ in range(2):
        with encrypted(f"sqlite:///{tmp_path}/cache.db", keys=TEXT) as store:
            vectors = askonce.EmbeddingCache(embed, model="m", store=store).embed(["a", "bb", "a"])
    assert calls == ["a", "bb"]
    assert vectors.tolist() == np.array([[1, 0.1], [2, 0.1], [1, 0.1]], np.float32).tolist()


def test_urls_take_keys_from_the_environment_or_a_file(tmp_path, monkeypatch):
    url = f"encrypted+sqlite:///{tmp_path}/cache.db"
    with pytest.raises(InputError, match="openssl rand"):
        open_store(url)
    monkeypatch.setenv("ASKONCE_KEY", TEXT)
    with open_store(url) as store:
        store.write({"ns/a": b"1"})
    (tmp_path / "keys").write_text(f"{base64.b64encode(NEW).decode()}\n{TEXT}\n")
    with open_store(f"{url}?key_file={tmp_path}/keys") as store:
        assert store.read(["ns/a"]) == [b"1"]
    monkeypatch.setenv("MY_KEYS", f"{base64.b64encode(OTHER).decode()},{TEXT}")
    with open_store(f"{url}?key_env=MY_KEYS&max_bytes=2MiB") as store:
        assert store.read(["ns/a"]) == [b"1"]
        assert store.store.max_bytes == 2 * 2**20
    for option in ("key", "keys"):
        with pytest.raises(InputError, match="does not belong in a URL") as refused:
            open_store(f"{url}?{option}={TEXT}")
        assert TEXT.rstrip("=") not in str(refused.value)
    with pytest.raises(InputError, match="cannot read the key file"):
        open_store(f"{url}?key_file={tmp_path}/none")


@pytest.mark.parametrize("keys", [b"short", "x", "", [], [b"1" * 31], {"a": "short"}, 5])
def test_what_is_no_key_is_refused(keys):
    with pytest.raises((InputError, TypeError)):
        encrypted("memory://", keys=keys)


def test_a_store_below_that_fails_is_told(tmp_path):
    store = encrypted(f"sqlite:///{tmp_path}/cache.db", keys=os.urandom(32))
    store.close()
    with pytest.raises(StoreError):
        store.read(["ns/a"])
