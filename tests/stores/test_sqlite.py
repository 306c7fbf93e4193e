import contextlib
import os
import pathlib
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from askonce import InputError, StoreError, open_store
from askonce.stores.sqlite import SQLiteStore
from askonce.testing import Opener, Raw, StoreTests
from tests.alone import Gate, alone, fork, join
from tests.stores import forks


class TestSQLiteStore(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path: pathlib.Path) -> Opener:
        return lambda: SQLiteStore(tmp_path / "store.db")

    @pytest.fixture
    def raw(self, tmp_path: pathlib.Path) -> Raw:
        return lambda: dict(rows(tmp_path / "store.db", "SELECT key, value FROM askonce_entries"))


def rows(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def race_to_open(folder: str) -> None:
    for turn in range(5):
        gate = Gate()
        path = f"{folder}/{turn}.db"

        def work(number: int, gate: Gate = gate, path: str = path) -> None:
            gate.wait()
            with SQLiteStore(path) as store:
                store.write({f"a/{number}": b"x"})
                assert store.read([f"a/{number}"]) == [b"x"]

        children = [fork(lambda number=number: work(number)) for number in range(8)]
        gate.open()
        join(*children)
        with SQLiteStore(path) as store:
            assert len(list(store.keys())) == 8


def test_eight_processes_race_to_open_it_first(tmp_path):
    alone(race_to_open, tmp_path)


@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
def test_survives_a_fork(tmp_path, scenario):
    alone(scenario, f"sqlite:///{tmp_path}/store.db")


def test_all_its_files_are_for_the_owner_only(tmp_path):
    old = os.umask(0)
    try:
        store = SQLiteStore(tmp_path / "store.db")
        store.write({"a/1": b"x"})
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    store.close()


def test_makes_missing_folders(tmp_path):
    with SQLiteStore(tmp_path / "some/where/store.db") as store:
        store.write({"a/1": b"x"})


def test_leaves_no_other_file_behind_when_closed(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store:
        store.write({"a/1": b"x"})
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        SQLiteStore(tmp_path)


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        SQLiteStore(tmp_path / "file" / "store.db")


@pytest.mark.parametrize("content", [b"this is no database at all\n" * 100, b"short", b"\0" * 4096])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(StoreError, match=r"notes\.txt.*not an SQLite database"):
        SQLiteStore(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_bytes() == content


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        store.write({"a/1": b"x"})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE askonce_meta SET value = 2 WHERE name = 'format'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"store\.db.*newer askonce"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_the_tables_of_others_are_left_alone(tmp_path):
    path = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE full_llm_cache (prompt, llm, idx, response)")
        connection.execute("INSERT INTO full_llm_cache VALUES ('p', 'l', 0, 'r')")
        connection.commit()
    with SQLiteStore(path) as store:
        store.write({"a/1": b"x"})
        assert list(store.keys()) == ["a/1"]
        assert store.clear("") == 1
    assert rows(path, "SELECT * FROM full_llm_cache") == [("p", "l", 0, "r")]


def test_a_file_damaged_under_a_running_store_is_an_error_of_ours(tmp_path):
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        store.write({f"a/{number}": bytes(20_000) for number in range(100)})
    content = bytearray(path.read_bytes())
    content[1000:-1000] = b"\xa5" * (len(content) - 2000)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.db"):
        with SQLiteStore(path) as store:
            store.read([f"a/{number}" for number in range(100)])


def cut_off(path: str) -> None:
    keys = [f"a/{number}" for number in range(1000)]
    with SQLiteStore(path) as store:
        store.write(dict.fromkeys(keys, bytes(6000)))
        store.vacuum()  # nothing is left in the log
        assert all(store.read(keys))
        for length in (2_000_000, 100, 0):
            os.truncate(path, length)
            with pytest.raises(StoreError, match=r"store\.db"):
                store.read(keys)


def test_a_file_cut_off_under_a_running_store_does_not_end_the_process(tmp_path):
    alone(cut_off, tmp_path / "store.db")


def test_where_nothing_may_be_written_it_says_so(tmp_path, forbid_writing):
    (tmp_path / "forbidden").mkdir(exist_ok=True)
    with SQLiteStore(tmp_path / "forbidden/old.db") as store:
        store.write({"a/1": b"x"})
    said = forbid_writing("sqlite:///{}/new.db", "sqlite:///{}/old.db")
    new, old = said.splitlines()
    assert "new.db" in new
    assert "Permission denied" in new
    assert "check that the file and its folder may be written" in old


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path, fill_disk):
    assert "store.db" in fill_disk("sqlite:///{}/store.db")


def test_waits_for_a_writer_in_another_process(tmp_path):
    store = SQLiteStore(tmp_path / "store.db")
    store.write({"a/1": b"before"})
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE askonce_entries SET value = x'00'")
    done = threading.Event()

    def write():
        store.write({"a/1": b"after"})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert store.read(["a/1"]) == [b"before"]
    assert not done.is_set()
    other.execute("COMMIT")
    writer.join()
    assert store.read(["a/1"]) == [b"after"]
    other.close()
    store.close()


def test_fifty_threads_share_it(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store, ThreadPoolExecutor(50) as pool:
        start = threading.Barrier(50)

        def work(thread):
            start.wait()
            for turn in range(5):
                store.write({f"a/{thread}": bytes([turn]), "a/shared": bytes([thread])})
                assert store.read([f"a/{thread}"]) == [bytes([turn])]

        list(pool.map(work, range(50)))
        assert len(list(store.keys())) == 51


def test_a_store_forgotten_unclosed_lets_its_files_go(tmp_path):
    store = SQLiteStore(tmp_path / "store.db")
    store.write({"a/1": b"x"})
    connections = store._database._connections
    del store
    assert connections._closed
    assert not connections._idle


def test_says_that_it_is_closed(tmp_path):
    store = SQLiteStore(tmp_path / "store.db")
    store.close()
    for use in (
        lambda: store.read(["a/1"]),
        lambda: store.write({"a/1": b"x"}),
        lambda: store.delete(["a/1"]),
        lambda: list(store.keys()),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_a_key_that_utf8_cannot_hold_is_an_error_of_ours(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store:
        with pytest.raises(StoreError, match="UTF-8"):
            store.write({"a/1": b"x", "a/\ud800": b"x"})
        assert store.read(["a/1"]) == [None]
        store.write({"a/1": b"x"})


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store:
        with pytest.raises(StoreError):
            store.write({"a/1": b"x", "a/2": object()})
        assert list(store.keys()) == []


def test_listing_starts_at_the_prefix(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store:
        store.write({f"a/{number}": b"" for number in range(3000)} | {"z/1": b""})
        steps = []
        store._database.run(
            lambda connection: connection.set_progress_handler(lambda: steps.append(1), 10)
        )
        assert list(store.keys("z/")) == ["z/1"]
        assert len(steps) < 50


def test_opens_from_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///cache.db") as store:
        assert store.path == tmp_path / "cache.db"
    with open_store(f"sqlite:///{tmp_path}/other.db") as store:
        assert store.path == tmp_path / "other.db"
    with pytest.raises(InputError, match="have max_bytes"):
        open_store("sqlite:///cache.db?mode=ro")


@pytest.mark.parametrize("missing", [(), (0,), (250,), (249, 499), range(250, 500), range(600)])
def test_values_are_joined_over_many_statements(tmp_path, missing):
    keys = [f"a/{number}" for number in range(600)]
    with open_store(f"sqlite:///{tmp_path}/cache.db") as store:
        kept = {key: bytes([0, 255, n % 256]) for n, key in enumerate(keys) if n not in missing}
        store.write(kept)
        expected = [kept.get(key) for key in reversed(keys)]
        found = store.read_joined(keys[::-1])
        assert found == (expected if missing else b"".join(kept[key] for key in reversed(keys)))
        store.write({keys[0]: b"longer", keys[300]: b""})
        assert store.read_joined(keys) == store.read(keys)


def test_values_too_long_to_be_joined_are_read_one_by_one(tmp_path):
    with SQLiteStore(tmp_path / "cache.db") as store:
        store.write({"a/1": bytes(700), "a/2": bytes(700)})
        store._database.run(
            lambda connection: connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
        )
        assert store.read_joined(["a/1", "a/2"]) == [bytes(700), bytes(700)]
