"""vacuum: space is given back, and nobody fails meanwhile."""

import os
import pathlib
import sqlite3
import threading

import pytest

from askonce import open_store
from tests.alone import alone, fork, join
from tests.upkeep.entries import URLS


@pytest.mark.parametrize("url", URLS[1:])
def test_a_vacuum_gives_space_back(tmp_path, url):
    with open_store(url.format(tmp_path)) as store:
        for start in range(0, 1000, 100):
            store.write({f"a/{start + part}": os.urandom(5_000) for part in range(100)})
        full = store.size()
        assert full > 5_000_000
        store.delete([f"a/{number}" for number in range(900)])
        store.vacuum()
        assert store.size() < full / 5
        assert len(list(store.keys())) == 100


@pytest.mark.parametrize("url", URLS[1:])
def test_a_vacuum_amid_threads_fails_nobody(tmp_path, url):
    store = open_store(url.format(tmp_path))
    stop = threading.Event()
    errors = []

    def work(who):
        turn = 0
        try:
            while not stop.is_set():
                store.write({f"a/{who}-{turn % 50}": bytes([who]) * 3_000})
                assert store.read([f"a/{who}-{turn % 50}"]) == [bytes([who]) * 3_000]
                store.delete([f"a/{who}-{(turn + 25) % 50}"])
                turn += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        store.vacuum()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    store.close()


def vacuum_amid_processes(url: str) -> None:
    def work(who: int) -> None:
        with open_store(url) as store:
            for turn in range(100):
                store.write({f"a/{who}-{turn}": bytes([who]) * 3_000})
                assert store.read([f"a/{who}-{turn}"]) == [bytes([who]) * 3_000]

    children = [fork(lambda who=who: work(who)) for who in range(3)]
    with open_store(url) as store:
        for _ in range(5):
            store.vacuum()
    join(*children)
    with open_store(url) as store:
        assert len(list(store.keys())) == 300


@pytest.mark.parametrize("url", URLS[1:3])
def test_a_vacuum_amid_processes_fails_nobody(tmp_path, url):
    alone(vacuum_amid_processes, url.format(tmp_path))


def test_a_file_stores_vacuum_removes_empty_folders_and_abandoned_files(tmp_path):
    root = tmp_path / "store"
    store = open_store(f"file:///{root}")
    store.write({"a/b/c/1": b"x", "a/d/1": b"y"})
    store.delete(["a/b/c/1"])
    for name, age in (("abandoned", 1e4), ("under-way", 0)):
        path = root / ".askonce" / name
        path.write_bytes(b"half of i")
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    store.vacuum()
    assert not (root / "a/b").exists()
    assert store.read(["a/d/1"]) == [b"y"]
    assert [path.name for path in (root / ".askonce").iterdir()] == ["under-way"]
    store.close()


def test_a_log_that_somebody_keeps_from_being_emptied_is_emptied_later(tmp_path, monkeypatch):
    path = pathlib.Path(tmp_path / "store.db")
    store = open_store(f"sqlite:///{path}?max_bytes=2MB")
    store.write({"a/0": bytes(1_000)})
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM askonce_entries").fetchone()
    for number in range(30):
        store.write({f"a/{number}": bytes(100_000)})
    assert store._database.log.stat().st_size > 1_500_000
    reader.close()
    store._database._trim_after = 0.0
    store.write({"a/last": b"x"})
    assert store._database.log.stat().st_size < 1_500_000
    store.close()
