import os
import pathlib
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError, StoreError, open_store
from askonce.stores.file import FileStore
from askonce.testing import Opener, Raw, StoreTests
from tests.alone import alone
from tests.stores import forks


class TestFileStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: FileStore(tmp_path / "store")

    @pytest.fixture
    def raw(self, tmp_path: pathlib.Path) -> Raw:
        def read():
            probe = FileStore(tmp_path / "store")
            files = [
                path for path in files_below(tmp_path / "store") if ".askonce" not in path.parts
            ]
            found = {key: probe.path_of(key) for key in probe.keys()}
            assert sorted(found.values()) == sorted(files)
            return {key: path.read_bytes() for key, path in found.items()}

        return read


def files_below(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]


def test_the_layout_is_the_keys_path(tmp_path):
    store = FileStore(tmp_path)
    store.write({"ns/embedding/text-embedding-3-small/0a1b": b"x", "flat": b"y"})
    assert (tmp_path / "ns/embedding/text-embedding-3-small/0a1b").read_bytes() == b"x"
    assert (tmp_path / "flat").read_bytes() == b"y"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a:b/c", "a%3Ab/c"),
        ("../up", "%2E./up"),
        ("/absolute", "%2F/absolute"),
        ("a//b", "a/%2F/b"),
        ("a/", "a/%2F"),
        (".askonce/x", "%2Easkonce/x"),
        ("C:\\x", "C%3A%5Cx"),
        ("é", "%C3%A9"),
        ("\ud800", "%ED%A0%80"),
        ("a\0b", "a%00b"),
        ("x" * 201, "x" * 200 + "%/x"),
        ("x" * 200 + "..", "x" * 200 + "%/%2E."),
        ("x" * 200 + "../y", "x" * 200 + "%/%2E./y"),
    ],
)
def test_what_a_file_name_cannot_hold_is_escaped(tmp_path, key, path):
    store = FileStore(tmp_path)
    assert store.path_of(key) == tmp_path / path
    store.write({key: b"x"})
    assert (tmp_path / path).read_bytes() == b"x"
    assert list(store.keys()) == [key]


segments = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=".%/~:a\\", max_size=8),
    st.builds(
        "{}{}".format, st.text("a.%", min_size=195, max_size=205), st.text(".é/", max_size=4)
    ),
)
any_key = st.lists(segments, min_size=1, max_size=4).map("/".join).filter(bool)


@given(st.lists(any_key, max_size=10, unique=True))
def test_no_key_leaves_the_root_and_no_two_meet(keys):
    store = FileStore("/root-that-is-not-there")
    paths = {}
    for key in keys:
        path = str(store.path_of(key))
        assert os.path.normpath(path) == path
        relative = os.path.relpath(path, "/root-that-is-not-there")
        assert not relative.startswith((".", "/"))
        assert all(len(part.encode()) <= 255 for part in relative.split("/"))
        assert paths.setdefault(path, key) == key


@given(any_key)
def test_every_key_comes_back_from_its_path(tmp_path_factory, key):
    root = tmp_path_factory.mktemp("store")
    store = FileStore(root)
    try:
        store.write({key: b"x"})
    except StoreError:
        assert len(str(store.path_of(key))) > 4000
        return
    assert list(store.keys()) == [key]
    assert FileStore(root).read([key]) == [b"x"]
    assert store.clear(key) == 1
    assert files_below(root) == []


def test_files_of_others_are_neither_listed_nor_deleted(tmp_path):
    store = FileStore(tmp_path)
    store.write({"a/1": b"x"})
    for name in (".DS_Store", "has space", "100%", "a/.hidden", "%41"):
        (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"theirs")
    assert list(store.keys()) == ["a/1"]
    assert store.clear("") == 1
    assert len(files_below(tmp_path)) == 6


def test_files_and_folders_are_for_the_owner_only(tmp_path):
    old = os.umask(0)
    try:
        FileStore(tmp_path / "made" / "store").write({"a/b/c": b"x"})
    finally:
        os.umask(old)
    for path in (tmp_path / "made").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_modes_can_be_chosen_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        FileStore(tmp_path, folder_mode=0o770, file_mode=0o640).write({"a/b": b"x"})
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o770
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o640


def test_files_being_written_are_invisible_and_swept_once_abandoned(tmp_path):
    store = FileStore(tmp_path)
    store.write({"a/1": b"x"})
    work = tmp_path / ".askonce"
    assert list(work.iterdir()) == []
    (work / "recent").write_bytes(b"half")
    (work / "old").write_bytes(b"half")
    os.utime(work / "old", (time.time() - 4000,) * 2)
    assert list(store.keys()) == ["a/1"]
    assert list(store.keys(".askonce")) == []
    assert store.read([".askonce/recent", ".askonce/old"]) == [None, None]
    assert store.clear("") == 1
    FileStore(tmp_path)
    assert list(work.iterdir()) == [work / "recent"]


def test_a_failed_write_leaves_what_was_there_and_no_rest(tmp_path, monkeypatch):
    store = FileStore(tmp_path)
    store.write({"a/1": b"before"})

    def fail(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StoreError, match="No space left"):
        store.write({"a/1": b"after"})
    assert store.read(["a/1"]) == [b"before"]
    assert list((tmp_path / ".askonce").iterdir()) == []


def test_readers_of_a_file_being_replaced_see_one_or_the_other(tmp_path):
    store, values = FileStore(tmp_path), [b"a" * 400_000, b"b" * 300_000]
    store.write({"a/1": values[0]})
    stop = threading.Event()

    def rewrite():
        while not stop.is_set():
            for value in values:
                store.write({"a/1": value})

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(200):
            assert (tmp_path / "a/1").read_bytes() in values
    finally:
        stop.set()
        writer.join()


def test_a_key_that_is_another_keys_folder_is_an_error_or_a_miss(tmp_path):
    store = FileStore(tmp_path)
    store.write({"a/b": b"x"})
    assert store.read(["a", "a/b/c"]) == [None, None]
    store.delete(["a", "a/b/c"])
    for key in ("a", "a/b/c"):
        with pytest.raises(StoreError):
            store.write({key: b"y"})
    assert store.read(["a/b"]) == [b"x"]
    assert list((tmp_path / ".askonce").iterdir()) == []


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="needs a folder"):
        FileStore(tmp_path / "file")


def test_opening_makes_nothing(tmp_path):
    store = FileStore(tmp_path / "store")
    assert store.read(["a/1"]) == [None]
    assert list(store.keys()) == []
    store.delete(["a/1"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_deleted_meanwhile_is_made_again(tmp_path):
    store = FileStore(tmp_path / "store")
    store.write({"a/1": b"x"})
    os.rename(tmp_path / "store", tmp_path / "moved")
    assert store.read(["a/1"]) == [None]
    store.write({"a/1": b"y"})
    assert store.read(["a/1"]) == [b"y"]


def test_opens_from_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("file:///some/where").root == tmp_path / "some/where"
    assert open_store(f"file:///{tmp_path}/x").root == tmp_path / "x"
    assert open_store("file:///.").root == tmp_path
    with pytest.raises(InputError, match="have max_bytes"):
        open_store("file:///x?size=1")


def test_where_nothing_may_be_written_it_still_reads(tmp_path, forbid_writing):
    FileStore(tmp_path / "forbidden/old").write({"a/1": b"x"})
    said = forbid_writing("file:///{}/new", "file:///{}/old").splitlines()
    assert said[0] == "read: [None]"
    assert said[2] == "read: [b'x']"
    assert "Permission denied" in said[1]
    assert "Permission denied" in said[3]


def test_a_full_disk_loses_nothing_that_was_stored(fill_disk):
    assert "cannot write" in fill_disk("file:///{}/store")


@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
def test_survives_a_fork(tmp_path, scenario):
    alone(scenario, f"file:///{tmp_path}/store")
