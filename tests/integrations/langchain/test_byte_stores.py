"""Our stores as LangChain's byte stores, by LangChain's own standard suites and beyond."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore
from langchain_core.stores import BaseStore, InvalidKeyException
from langchain_core.stores import InMemoryByteStore as LangChainInMemoryByteStore
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests

from askonce.errors import InputTypeError, StoreError
from askonce.integrations.langchain import (
    ByteStoreAdapter,
    InMemoryByteStore,
    LocalFileStore,
    SQLiteByteStore,
    StoreByteStore,
)
from askonce.integrations.langchain.adapter import as_store
from askonce.stores import open_store
from askonce.testing import StoreTests
from tests.integrations.langchain.embedding_models import files_in


def local_files(folder):
    return LocalFileStore(folder / "files")


def in_memory(folder):
    return InMemoryByteStore()


def sqlite_file(folder):
    return SQLiteByteStore(folder / "values.db")


def over_memory(folder):
    return StoreByteStore("memory://")


def over_files(folder):
    return StoreByteStore(f"file:///{folder}/files")


def over_sqlite(folder):
    return StoreByteStore(f"sqlite:///{folder}/values.db")


def over_lmdb(folder):
    return StoreByteStore(open_store(f"lmdb:///{folder}/values"))


MAKERS = [local_files, in_memory, sqlite_file, over_memory, over_files, over_sqlite, over_lmdb]


class Fixtures:
    """Give both standard suites their values."""

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\x00\xff", b""


class TestSync(Fixtures, BaseStoreSyncTests[bytes]):
    @pytest.fixture(params=MAKERS)
    def kv_store(self, request, tmp_path) -> BaseStore[str, bytes]:
        return request.param(tmp_path)


class TestAsync(Fixtures, BaseStoreAsyncTests[bytes]):
    @pytest.fixture(params=MAKERS)
    async def kv_store(self, request, tmp_path) -> BaseStore[str, bytes]:
        return request.param(tmp_path)


class TestAdapterOfOurByteStore(StoreTests):
    @pytest.fixture
    def opener(self):
        byte_store = InMemoryByteStore()
        return lambda: ByteStoreAdapter(byte_store)


class TestAdapterOfLangChainsByteStore(StoreTests):
    @pytest.fixture
    def opener(self):
        byte_store = LangChainInMemoryByteStore()
        return lambda: ByteStoreAdapter(byte_store)


class TestStoreBehindLocalFileStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path):
        return lambda: LocalFileStore(tmp_path / "files").store


@pytest.fixture(params=MAKERS)
def byte_store(request, tmp_path):
    return request.param(tmp_path)


def test_keys_come_from_generators(byte_store):
    assert isinstance(byte_store.yield_keys(), Generator)
    assert isinstance(byte_store.ayield_keys(), AsyncGenerator)


async def test_written_by_one_colour_read_by_the_other(byte_store):
    byte_store.mset([("a", b"1")])
    await byte_store.amset([("b", b"2")])
    assert await byte_store.amget(["a", "b", "c"]) == [b"1", b"2", None]
    assert byte_store.mget(["a", "b", "c"]) == [b"1", b"2", None]


def test_keys_keep_their_prefix_filter(byte_store):
    byte_store.mset([(key, b"") for key in ("ns1", "ns1-a", "ns2", "deep/ns1", "deep/x/y")])
    assert sorted(byte_store.yield_keys(prefix="ns1")) == ["ns1", "ns1-a"]
    assert sorted(byte_store.yield_keys(prefix="deep/")) == ["deep/ns1", "deep/x/y"]
    assert sorted(byte_store.yield_keys(prefix="de")) == ["deep/ns1", "deep/x/y"]
    assert list(byte_store.yield_keys(prefix="none")) == []


def test_the_last_of_two_values_for_a_key_stays(byte_store):
    byte_store.mset([("a", b"1"), ("a", b"2")])
    assert byte_store.mget(["a"]) == [b"2"]


@pytest.mark.parametrize("value", ["text", 3, None, [1.0]])
def test_a_value_that_is_not_bytes_is_refused(byte_store, value):
    with pytest.raises(InputTypeError, match="keeps bytes only"):
        byte_store.mset([("a", b"good"), ("b", value)])
    assert byte_store.mget(["a", "b"]) == [None, None]


@pytest.mark.parametrize("key", [None, 3, b"bytes", ""])
def test_a_key_that_is_none_is_refused(byte_store, key):
    for call in (byte_store.mget, byte_store.mdelete, lambda keys: byte_store.mset([(key, b"")])):
        with pytest.raises(InputTypeError, match="is not a key"):
            call([key])


def test_an_in_memory_store_can_be_bounded():
    store = InMemoryByteStore(max_bytes=1000)
    store.mset([(f"k{number}", bytes(100)) for number in range(50)])
    assert 0 < len(list(store.yield_keys())) < 10
    assert store.mget(["k49"]) == [bytes(100)]


def test_a_closed_store_says_so(tmp_path):
    store = SQLiteByteStore(tmp_path / "a.db")
    store.store.close()
    with pytest.raises(StoreError, match="closed"):
        store.mget(["a"])


def test_an_adapter_gives_back_the_store_it_covers(tmp_path):
    store = open_store("memory://")
    assert as_store(StoreByteStore(store)) is store
    assert as_store(store) is store
    with pytest.raises(InputTypeError, match="is not a store"):
        as_store(3)


class TestLocalFileStore:
    def test_a_value_is_the_file_of_its_key(self, tmp_path):
        store = LocalFileStore(tmp_path / "root")
        store.mset([("key1", b"value1"), ("sub.folder/key-2_", b"value2")])
        assert files_in(tmp_path / "root") == {
            "key1": b"value1",
            "sub.folder/key-2_": b"value2",
        }
        assert store.root_path == (tmp_path / "root").absolute()

    @pytest.mark.parametrize("key", [".hidden", "a/.hidden/b", "x" * 255, "a." + "y" * 230 + "/z"])
    def test_every_key_of_langchains_has_its_file_name(self, tmp_path, key):
        classic = LangChainLocalFileStore(tmp_path)
        ours = LocalFileStore(tmp_path)
        classic.mset([(key, b"theirs")])
        assert ours.mget([key]) == [b"theirs"]
        assert list(ours.yield_keys()) == [key]
        assert list(ours.yield_keys(prefix=key[:-1])) == [key]
        ours.mset([(key, b"ours")])
        assert classic.mget([key]) == [b"ours"]

    @pytest.mark.parametrize("key", ["a//b", "./a/b", "a/./b", "a/b/"])
    def test_a_key_that_langchain_tidies_leads_to_the_same_file(self, tmp_path, key):
        classic = LangChainLocalFileStore(tmp_path)
        classic.mset([(key, b"theirs")])
        assert LocalFileStore(tmp_path).mget([key, "a/b"]) == [b"theirs", b"theirs"]

    @pytest.mark.parametrize(
        "key", ["/etc/passwd", "..", "../up", "a/../../up", "a/..", ".", "./", "a\n", "a\0", "\\up"]
    )
    def test_a_key_that_leads_outside_is_refused(self, tmp_path, key):
        store = LocalFileStore(tmp_path / "root")
        for call in (
            lambda: store.mget([key]),
            lambda: store.mset([(key, b"")]),
            lambda: store.mdelete([key]),
            lambda: list(store.yield_keys(prefix=key)),
            lambda: asyncio.run(store.amget([key])),
            lambda: store._get_full_path(key),
        ):
            with pytest.raises(InvalidKeyException):
                call()
        assert not list(tmp_path.rglob("*"))

    @given(key=st.text("aB.:%/~ -_\\é😿", min_size=1, max_size=12))
    @settings(deadline=None, max_examples=200)
    def test_whatever_the_key_its_file_is_below_the_root(self, tmp_path_factory, key):
        root = tmp_path_factory.mktemp("root")
        store = LocalFileStore(root)
        try:
            store.mset([(key, b"value")])
        except InvalidKeyException:
            assert not files_in(root)
        except StoreError:
            assert "//" in key or key.endswith("/")
        else:
            assert store.mget([key]) == [b"value"]
            assert len(files_in(root)) == 1
            assert store._get_full_path(key).is_relative_to(root)
            (found,) = store.yield_keys()
            assert store.mget([found]) == [b"value"]

    def test_the_work_folder_is_no_key(self, tmp_path):
        store = LocalFileStore(tmp_path)
        store.mset([(".askonce/key", b"value")])
        assert store.mget([".askonce/key"]) == [b"value"]
        assert list(store.yield_keys()) == [".askonce/key"]
        assert list(store.yield_keys(prefix=".askonce/")) == [".askonce/key"]

    def test_a_colon_in_a_key_works(self, tmp_path):
        store = LocalFileStore(tmp_path)
        store.mset([("nomic-embed-text:latest/a", b"value")])
        assert store.mget(["nomic-embed-text:latest/a"]) == [b"value"]
        assert list(store.yield_keys(prefix="nomic-embed-text:")) == ["nomic-embed-text:latest/a"]

    def test_a_reader_never_sees_half_a_value(self, tmp_path, monkeypatch):
        store = LocalFileStore(tmp_path)
        store.mset([("key", b"old")])
        replace = os.replace
        seen = []

        def look_then_replace(source, target):
            seen.append(store.mget(["key"]))
            replace(source, target)

        monkeypatch.setattr(os, "replace", look_then_replace)
        store.mset([("key", b"new" * 100_000)])
        assert seen == [[b"old"]]
        assert store.mget(["key"]) == [b"new" * 100_000]

    def test_a_failed_write_leaves_the_old_value(self, tmp_path, monkeypatch):
        store = LocalFileStore(tmp_path)
        store.mset([("key", b"old")])

        def fail(descriptor, content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", fail)
        with pytest.raises(StoreError, match="No space left"):
            store.mset([("key", b"new")])
        assert store.mget(["key"]) == [b"old"]
        assert files_in(tmp_path) == {"key": b"old"}

    @pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
    @pytest.mark.parametrize("modes", [(None, None), (0o777, 0o666), (0o700, 0o600)])
    def test_modes_are_those_given_or_the_umasks(self, tmp_path, umask, modes):
        chmod_dir, chmod_file = modes
        before = os.umask(umask)
        try:
            store = LocalFileStore(
                tmp_path / "root" / "deep", chmod_dir=chmod_dir, chmod_file=chmod_file
            )
            store.mset([("sub/key", b"value")])
        finally:
            os.umask(before)

        def mode(path: Path) -> int:
            return stat.S_IMODE(path.stat().st_mode)

        folder, file = store.root_path / "sub", store.root_path / "sub" / "key"
        assert mode(file) == (0o666 & ~umask if chmod_file is None else chmod_file)
        assert mode(folder) == (0o777 & ~umask if chmod_dir is None else chmod_dir)
        assert mode(store.root_path) == mode(store.root_path.parent) == mode(folder)

    def test_a_read_counts_as_an_access_if_asked(self, tmp_path):
        for update in (False, True):
            store = LocalFileStore(tmp_path, update_atime=update)
            store.mset([("key", b"value")])
            os.utime(tmp_path / "key", (1000, 2000))
            fd = os.open(tmp_path, os.O_RDONLY)
            os.close(fd)
            store.mget(["key", "missing"])
            found = (tmp_path / "key").stat()
            assert found.st_mtime == 2000
            if update:
                assert found.st_atime > 2000
