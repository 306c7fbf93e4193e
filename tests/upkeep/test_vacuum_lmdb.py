"""vacuum of LMDB stores: other processes, and failures."""

import pathlib
import subprocess
import sys

import pytest

from askonce import StoreError
from askonce.stores import lmdb_environment
from askonce.stores.lmdb import LMDBStore


def test_an_lmdb_store_that_another_process_has_open_is_not_vacuumed(tmp_path):
    store = LMDBStore(tmp_path / "store")
    store.write({"a/1": b"x"})
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, f"lmdb:///{tmp_path}/store"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "open\n"
    with pytest.raises(StoreError, match=r"open in another process; close it there"):
        store.vacuum()
    store.write({"a/2": b"y"})
    assert other.communicate("\n")[0] == "['a/1', 'a/2']\n"
    store.vacuum()
    assert sorted(store.keys()) == ["a/1", "a/2"]
    store.close()


HOLD = """
import sys, askonce
store = askonce.open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
print(sorted(store.keys()))
"""


def test_who_opens_an_lmdb_store_amid_its_vacuum_waits_and_sees_the_new_file(tmp_path, monkeypatch):
    store = LMDBStore(tmp_path / "store")
    for number in range(50):
        store.write({f"a/{number}": bytes(5_000)})
    compact = lmdb_environment._compact
    others = []

    def with_another(path):
        other = subprocess.Popen(
            [sys.executable, "-c", USE, f"lmdb:///{path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        others.append(other)
        waits, locks = f" {other.pid} ", pathlib.Path("/proc/locks")
        while not any("->" in line and waits in line for line in locks.read_text().splitlines()):
            assert other.poll() is None
        compact(path)

    monkeypatch.setattr(lmdb_environment, "_compact", with_another)
    store.vacuum()
    assert others[0].stdout.readline() == "50\n"
    assert store.read(["b/other"]) == [b"written by another"]
    store.write({"b/mine": b"mine"})
    assert others[0].communicate("\n")[0] == "[b'mine']\n"
    assert len(list(store.keys())) == 52
    store.close()


USE = """
import sys, askonce
store = askonce.open_store(sys.argv[1])
count = len(list(store.keys()))
store.write({"b/other": b"written by another"})
print(count, flush=True)
sys.stdin.readline()
print(store.read(["b/mine"]))
"""


def test_an_lmdb_vacuum_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    store = LMDBStore(tmp_path / "store")
    store.write({"a/1": b"x"})

    def fail(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lmdb_environment, "_compact", fail)
    with pytest.raises(StoreError, match="No space left"):
        store.vacuum()
    assert store.read(["a/1"]) == [b"x"]
    monkeypatch.undo()
    (tmp_path / "store/.compact").mkdir()
    (tmp_path / "store/.compact/data.mdb").write_bytes(b"left behind")
    store.vacuum()
    assert store.read(["a/1"]) == [b"x"]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["data.mdb", "lock.mdb"]
    assert (tmp_path / "store/data.mdb").stat().st_mode & 0o777 == 0o600
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.vacuum()
