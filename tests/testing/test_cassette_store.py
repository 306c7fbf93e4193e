"""The store of cassettes is a store."""

import pytest

from askonce.core import codecs, entry
from askonce.testing import Opener, Raw, StoreTests
from askonce.testing.cassette_store import CassetteStore
from askonce.testing.cassettes import Cassette, Folder, Witnessed


def cassette(folder, mode):
    return Cassette(folder, mode, Witnessed(), test="test_it.py::test_it")


class TestCassetteStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        folder = Folder(tmp_path / "cassettes" / "test_it")
        return lambda: CassetteStore(cassette(folder, "auto"))

    @pytest.fixture
    def raw(self, tmp_path) -> Raw:
        def read():
            folder = Folder(tmp_path / "cassettes" / "test_it")
            return {one.key: one.pack(one.key, now=0.0) for one in folder}

        return read

    def test_prunes_what_has_expired_and_nothing_else(self, store, raw):
        """A cassette keeps no times: it is as good as on its first day until it is deleted."""
        old = entry.pack(entry.Entry(b"old", codecs.JSON, 1.0, 2.0))
        store.write({"a/1": old, "a/2": b"other"}, expires=2.0)
        assert store.prune(3.0) == 0
        found = entry.unpack(raw()["a/1"])
        assert (found.payload, found.expires) == (b"old", entry.NEVER)

    def test_what_was_written_again_is_not_pruned(self, store):
        self.test_prunes_what_has_expired_and_nothing_else(store, lambda: self.read(store))

    @staticmethod
    def read(store):
        found = list(store.keys())
        return dict(zip(found, store.read(found), strict=True))


def test_a_replay_writes_and_deletes_for_its_test_only(tmp_path):
    CassetteStore(cassette(Folder(tmp_path), "auto")).write({"a/1": b"one", "a/2": b"two"})
    folder = Folder(tmp_path)
    store = CassetteStore(cassette(folder, "replay"))
    store.write({"a/3": b"three"})
    store.delete(["a/1"])
    assert store.read(["a/1", "a/2", "a/3"]) == [None, b"two", b"three"]
    assert sorted(store.keys()) == ["a/2", "a/3"]
    again = CassetteStore(cassette(folder, "replay"))
    assert again.read(["a/1", "a/2"]) == [b"one", b"two"]
    with pytest.raises(pytest.fail.Exception, match="no cassette"):
        again.read(["a/3"])


def test_what_means_nothing_in_another_run_is_not_recorded(tmp_path):
    secret = {"~askonce/isolation": b"secret", "team/tag/blue": b"epoch"}
    store = CassetteStore(cassette(Folder(tmp_path), "auto"))
    store.write(secret)
    assert store.read(list(secret)) == list(secret.values())
    assert list(tmp_path.iterdir()) == []
    store = CassetteStore(cassette(Folder(tmp_path), "replay"))
    assert store.read(list(secret)) == [None, None]


def test_two_processes_share_what_they_record(tmp_path):
    one, two = Folder(tmp_path), Folder(tmp_path)
    CassetteStore(cassette(one, "auto")).write({"a/1": b"one"})
    assert CassetteStore(cassette(two, "auto")).read(["a/1"]) == [b"one"]


def test_of_two_cassettes_for_one_request_one_is_used(tmp_path):
    folder = Folder(tmp_path)
    CassetteStore(cassette(folder, "auto")).write({"a/1": b"one"})
    (file,) = tmp_path.iterdir()
    copy = file.with_name("zzz.json")
    copy.write_bytes(file.read_bytes())
    folder = Folder(tmp_path)
    CassetteStore(cassette(folder, "replay")).read(["a/1"])
    assert folder.used == {file}


def test_what_a_killed_writer_left_is_no_cassette(tmp_path):
    (tmp_path / ".12-34-half.json").write_text('{"request"')
    assert list(Folder(tmp_path)) == []
