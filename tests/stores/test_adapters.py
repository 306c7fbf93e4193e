"""Stores of other packages, with the packages themselves: fsspec, py-key-value, LangChain."""

import json
import os
import pathlib
import time

import fsspec
import numpy as np
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from key_value.aio.stores.memory import MemoryStore
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper
from langchain_core.stores import InMemoryByteStore

import askonce
from askonce import InputError, InputTypeError, StoreError, adapt
from askonce.core import codecs, entry
from askonce.integrations.langchain import ByteStoreAdapter
from askonce.stores import key_value
from askonce.stores.file import FileStore
from askonce.stores.filesystem import FilesystemStore
from askonce.stores.key_value import KeyValueStore
from askonce.testing import Opener, Raw, StoreTests


def in_memory() -> MemoryFileSystem:
    return MemoryFileSystem(global_store=False, skip_instance_cache=True)


class TestFilesystemInMemory(StoreTests):
    @pytest.fixture
    def opener(self) -> Opener:
        filesystem = in_memory()
        return lambda: adapt(filesystem, "bucket/askonce")


class TestLocalFilesystem(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: adapt(fsspec.filesystem("file"), f"{tmp_path}/store")

    @pytest.fixture
    def raw(self, tmp_path: pathlib.Path) -> Raw:
        def read():
            with FileStore(tmp_path / "store") as store:
                keys = list(store.keys())
                return dict(zip(keys, store.read(keys), strict=True))

        return read


class TestFilesystemWithinAnother(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        inner = fsspec.filesystem("file", auto_mkdir=True)
        return lambda: adapt(DirFileSystem(path=str(tmp_path), fs=inner), "")


class TestKeyValue(StoreTests):
    @pytest.fixture
    def opener(self) -> Opener:
        theirs = MemoryStore()
        return lambda: adapt(theirs)

    def test_ten_thousand_keys_at_once(self, store):
        """As many as it lists for certain: one less than its limit."""
        entries = {f"a/{number:05d}": str(number).encode() for number in range(9_999)}
        store.write(entries)
        assert store.read([*reversed(entries), "a/missing"]) == [*reversed(entries.values()), None]
        assert sorted(store.keys("a/")) == list(entries)
        store.write({"a/one more": b""})
        with pytest.raises(StoreError, match="lists 10000 keys at most"):
            list(store.keys("a/"))
        store.write({"b/other": b""} | {f"a/{number}": b"" for number in range(1, 10_001)})
        with pytest.raises(StoreError, match="lists 10000 keys at most"):
            store.clear("b/")
        assert store.clear("a/") == 20_000
        assert list(store.keys()) == ["b/other"]


class TestWrappedKeyValue(StoreTests):
    @pytest.fixture
    def opener(self) -> Opener:
        theirs = MemoryStore()
        return lambda: KeyValueStore(Listing(theirs))

    test_ten_thousand_keys_at_once = TestKeyValue.test_ten_thousand_keys_at_once


class Listing(PrefixKeysWrapper):
    """Their wrappers list no keys; this one does."""

    def __init__(self, theirs):
        super().__init__(theirs, prefix="mine")

    async def keys(self, collection=None, *, limit=None):
        found = await self.key_value.keys(collection, limit=limit)
        return [key.removeprefix("mine__") for key in found]


def test_each_thing_has_its_adapter():
    byte_store = adapt(InMemoryByteStore())
    assert isinstance(byte_store, ByteStoreAdapter)
    byte_store.write({"a": b"1"})
    assert byte_store.read(["a"]) == [b"1"]
    with askonce.open_store("memory://") as store:
        assert adapt(store) is store


@pytest.mark.parametrize("thing", [None, 3, "sqlite:///x.db", {}, object()])
def test_anything_else_is_refused(thing):
    with pytest.raises(InputTypeError, match="cannot be made a store"):
        adapt(thing)


def test_a_filesystem_needs_a_path_and_nothing_else_takes_one():
    with pytest.raises(InputError, match="path is a folder"):
        adapt(in_memory())
    with pytest.raises(InputError, match="path is a folder"):
        adapt(MemoryStore(), "folder")


def test_a_cache_over_each_hits(tmp_path):
    local = fsspec.filesystem("file")
    for store in (
        adapt(in_memory(), "x"),
        adapt(local, str(tmp_path)),
        adapt(MemoryStore()),
        adapt(InMemoryByteStore()),
    ):
        calls = []

        def embed(texts, calls=calls):
            calls.extend(texts)
            return np.array([[float(len(text)), 0.1] for text in texts], np.float32)

        for _ in range(2):
            cache = askonce.EmbeddingCache(embed, model="m", store=store, ttl=60)
            assert cache.embed(["a", "bb"]).shape == (2, 2)
        assert calls == ["a", "bb"]


def test_folders_of_file_stores_are_read_and_foreign_files_left_alone(tmp_path):
    with FileStore(tmp_path) as store:
        store.write({"a/1": b"one", "a/.hidden": b"two"})
    (tmp_path / "a" / "Read me, please").write_bytes(b"foreign")
    store = adapt(fsspec.filesystem("file"), str(tmp_path))
    assert sorted(store.keys()) == ["a/.hidden", "a/1"]
    assert store.read(["a/1", "a/.hidden"]) == [b"one", b"two"]
    assert store.clear("") == 2
    assert (tmp_path / "a" / "Read me, please").exists()


def test_nothing_is_left_of_a_file_that_cannot_be_moved(tmp_path):
    store = adapt(fsspec.filesystem("file"), str(tmp_path))
    (tmp_path / "a").write_bytes(b"a file where a folder should be")
    with pytest.raises(StoreError, match="cannot write in .*LocalFileSystem"):
        store.write({"a/1": b"one"})
    assert store.read(["a/1"]) == [None]
    assert not list((tmp_path / ".askonce").iterdir())


def test_a_folder_that_is_removed_is_made_again(tmp_path):
    store = adapt(fsspec.filesystem("file"), str(tmp_path))
    store.write({"a/1": b"one"})
    store.delete(["a/1"])
    os.rmdir(tmp_path / "a")
    store.write({"a/1": b"two"})
    assert store.read(["a/1"]) == [b"two"]


class Failing(MemoryFileSystem):
    cachable = False

    def cat_file(self, path, **options):
        raise ConnectionResetError("cut off")

    def pipe_file(self, path, value, **options):
        raise PermissionError("read only")


def test_failures_of_a_filesystem_are_ours():
    store = FilesystemStore(Failing(), "x")
    with pytest.raises(StoreError, match="cannot read in '/x' of Failing: .*cut off"):
        store.read(["a/1"])
    with pytest.raises(StoreError, match="cannot write in '/x' of Failing: .*read only"):
        store.write({"a/1": b""})


def test_an_asynchronous_filesystem_is_refused():
    filesystem = in_memory()
    filesystem.asynchronous = True
    with pytest.raises(InputError, match="asynchronous"):
        adapt(filesystem, "x")


async def test_other_collections_are_left_alone():
    theirs = MemoryStore()
    await theirs.put("a/1", {"own": 1})
    store = adapt(theirs)
    store.write({"a/1": b"one"})
    assert store.clear("") == 1
    assert await theirs.get("a/1") == {"own": 1}


@pytest.mark.parametrize("value", [{}, {"base64": 3}, {"base64": "§"}, {"base64": "a"}])
async def test_what_is_not_ours_in_our_collection_is_missing(value):
    theirs = MemoryStore()
    await theirs.put("a/1", value, collection=key_value.COLLECTION)
    assert await adapt(theirs).aread(["a/1"]) == [None]


async def test_an_end_is_told_and_never_too_early():
    theirs = MemoryStore()
    store = adapt(theirs)
    now = time.time()
    blob = entry.pack(entry.Entry(b"{}", codecs.JSON, now, now + 99.5))
    await store.awrite({"a/1": blob}, expires=now + 99.5)
    _, left = await theirs.ttl("a/1", collection=key_value.COLLECTION)
    assert now + 99.5 <= time.time() + left
    assert left <= 100
    assert json.loads(json.dumps(await theirs.get("a/1", collection=key_value.COLLECTION)))


def test_a_store_that_lists_nothing_can_still_be_a_cache():
    store = adapt(PrefixKeysWrapper(MemoryStore(), prefix="mine"))
    store.write({"a/1": b"one"})
    assert store.read(["a/1", "a/2"]) == [b"one", None]
    with pytest.raises(StoreError, match="does not list its keys"):
        list(store.keys())


class Broken(MemoryStore):
    closed = False

    async def get_many(self, keys, *, collection=None):
        raise ConnectionError("cut off")

    async def close(self):
        self.closed = True


async def test_failures_of_a_key_value_store_are_ours_and_it_is_closed_with_ours():
    theirs = Broken()
    store = adapt(theirs)
    with pytest.raises(StoreError, match="Broken could not read: ConnectionError: cut off"):
        store.read(["a/1"])
    with pytest.raises(StoreError, match="cut off"):
        await store.aread(["a/1"])
    await store.aclose()
    assert theirs.closed
