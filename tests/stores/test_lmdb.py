import pathlib
import shutil
import stat
import tempfile

import lmdb
import pytest

from askonce import InputError, StoreError, open_store
from askonce.stores.lmdb import LMDBStore
from askonce.testing import Opener, Raw, StoreTests
from tests.alone import Gate, alone, fork, join
from tests.stores import forks


class TestLMDBStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: LMDBStore(tmp_path / "store")

    @pytest.fixture
    def raw(self, tmp_path: pathlib.Path) -> Raw:
        def read():
            with tempfile.TemporaryDirectory(dir=tmp_path) as copy:
                shutil.copy(tmp_path / "store/data.mdb", copy)
                with lmdb.open(copy, lock=False) as environment, environment.begin() as found:
                    return {key.decode(): value for key, value in found.cursor()}

        return read


def test_one_path_is_opened_once_in_a_process(tmp_path):
    one = LMDBStore(tmp_path / "store")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    two = LMDBStore(tmp_path / "link")
    assert one._environment is two._environment
    one.write({"a/1": b"x"})
    one.close()
    assert two.read(["a/1"]) == [b"x"]
    two.close()
    two.close()
    with LMDBStore(tmp_path / "store") as three:
        assert three.read(["a/1"]) == [b"x"]


def race_to_open(folder: str) -> None:
    for turn in range(5):
        gate = Gate()
        path = f"{folder}/{turn}"

        def work(number: int, gate: Gate = gate, path: str = path) -> None:
            gate.wait()
            with LMDBStore(path) as store:
                store.write({f"a/{number}": b"x"})

        children = [fork(lambda number=number: work(number)) for number in range(8)]
        gate.open()
        join(*children)
        with LMDBStore(path) as store:
            assert len(list(store.keys())) == 8


def test_eight_processes_race_to_open_it_first(tmp_path):
    alone(race_to_open, tmp_path)


@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
def test_survives_a_fork(tmp_path, scenario):
    alone(scenario, f"lmdb:///{tmp_path}/store")


def test_a_full_map_says_what_to_do_and_loses_nothing(tmp_path):
    with LMDBStore(tmp_path / "store", map_size=1_000_000) as store:
        kept = {}
        with pytest.raises(StoreError, match="larger map_size"):
            for number in range(100):
                entries = {f"a/{number}": bytes([number]) * 30_000, f"b/{number}": b"beside"}
                store.write(entries)
                kept |= entries
        assert store.read(list(kept)) == list(kept.values())
        assert sorted(store.keys()) == sorted(kept)
    with LMDBStore(tmp_path / "store") as larger:
        larger.write({"a/more": bytes(3_000_000)})
        assert larger.read(list(kept)) == list(kept.values())


def test_a_key_that_is_too_long_is_a_miss_and_an_error_to_write(tmp_path):
    with LMDBStore(tmp_path / "store") as store:
        store.write({"a/1": b"x", "k" * 511: b"longest"})
        for key in ("k" * 512, "é" * 256, ""):
            assert store.read([key, "a/1"]) == [None, b"x"]
            store.delete([key, "missing"])
            with pytest.raises(StoreError, match="1 to 511 bytes"):
                store.write({"a/2": b"y", key: b"x"})
            assert store.read(["a/2"]) == [None]
        assert store.read(["k" * 511]) == [b"longest"]


def test_keeps_keys_that_utf8_cannot_hold(tmp_path):
    with LMDBStore(tmp_path / "store") as store:
        store.write({"a/\ud800": b"x"})
        assert list(store.keys()) == ["a/\ud800"]


def test_its_files_are_for_the_owner_only(tmp_path):
    with LMDBStore(tmp_path / "store") as store:
        store.write({"a/1": b"x"})
        assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
        for path in (tmp_path / "store").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        LMDBStore(tmp_path / "file")
    with pytest.raises(StoreError):
        LMDBStore(tmp_path / "file" / "below")


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"not an environment" * 1000)
    with pytest.raises(StoreError, match="does not hold an LMDB environment"):
        LMDBStore(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == b"not an environment" * 1000


def test_where_nothing_may_be_written_it_says_so(tmp_path, forbid_writing):
    with LMDBStore(tmp_path / "forbidden/old") as store:
        store.write({"a/1": b"x"})
    new, old = forbid_writing("lmdb:///{}/new", "lmdb:///{}/old").splitlines()
    assert "Permission denied" in new
    assert "Permission denied" in old


def test_a_full_disk_loses_nothing_that_was_stored(fill_disk):
    assert "store" in fill_disk("lmdb:///{}/store")


def test_says_that_it_is_closed(tmp_path):
    store = LMDBStore(tmp_path / "store")
    store.close()
    for use in (
        lambda: store.read(["a/1"]),
        lambda: store.write({"a/1": b"x"}),
        lambda: store.delete(["a/1"]),
        lambda: list(store.keys()),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_opens_from_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("lmdb:///folder?map_size=20MB") as store:
        assert store.path == tmp_path / "folder"
        assert store._environment._opened.info()["map_size"] == 20_000_000
    for url in ("lmdb:///folder?map_size=huge", "lmdb:///folder?readers=1"):
        with pytest.raises(InputError):
            open_store(url)
