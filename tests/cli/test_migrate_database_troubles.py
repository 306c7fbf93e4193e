"""What is wrong with a database that is migrated is told, and the database stays as it is."""

import contextlib
import json
import sqlite3

import pytest

from tests.cli.helpers import in_process
from tests.cli.old_database import INSERT, LLM, insert, questions, snapshot, write_old

GOOD = json.dumps(
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "output", "Generation"],
        "kwargs": {"text": "good"},
    }
)

UNREADABLE = [
    ("cut short", LLM, 0, GOOD[:-5]),
    ("other class", LLM, 0, GOOD.replace("Generation", "Popen")),
    ("null", LLM, 0, None),
    ("bytes", LLM, 0, b"\x00\x01"),
    ("no utf-8", LLM, 0, b"CAST"),
    (b"\xff bytes", LLM, 0, GOOD),
    ("model known by its address", "[('h', <Handler object at 0x7f00>)]", 0, GOOD),
    ("model known by a class", "[('response_format', <class 'app.Joke'>)]", 0, GOOD),
]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(askonce, tmp_path):
    write_old("old.db", questions(3))
    insert("old.db", *UNREADABLE, ("half", LLM, 0, GOOD), ("half", LLM, 1, GOOD[:-9]))
    with contextlib.closing(sqlite3.connect("old.db")) as connection, connection:
        connection.execute(
            "UPDATE full_llm_cache SET response = CAST(x'7bff' AS TEXT) WHERE response = x'43415354'"
        )
    before = snapshot(tmp_path)
    result = askonce("migrate", "old.db", "sqlite:///new.db", "--report", "report.jsonl")
    assert result.code == 2
    assert result.out == "migrated 3, already there 0, could not be read 9\n"
    report = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert {line["origin"] for line in report} == {f"old.db, row {row}" for row in range(4, 13)}
    reasons = {line["origin"]: line["reason"] for line in report}
    assert "not all of it" in reasons["old.db, row 4"]
    assert "no text" in reasons["old.db, row 9"]
    assert "at 0x…" in reasons["old.db, row 10"]
    assert "app.Joke" in reasons["old.db, row 11"]
    assert all(f"old.db, row {row}: " in result.err for row in range(4, 13))
    assert snapshot(tmp_path) == before


def test_it_is_opened_for_reading_only(askonce, tmp_path, monkeypatch):
    write_old("old.db", questions(3))
    opened = []
    connect = sqlite3.connect

    def watch(target, **settings):
        opened.append(target)
        connection = connect(target, **settings)
        if "old.db" in str(target):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("DELETE FROM full_llm_cache")
        return connection

    monkeypatch.setattr("askonce.cli.database.sqlite3.connect", watch)
    assert askonce("migrate", "old.db", "file:///new").code == 0
    assert [target.endswith("/old.db?mode=ro") for target in opened] == [True]


def test_a_write_that_was_cut_off(askonce, tmp_path):
    """Its journal would have to be played back, which is for a writer to do."""
    write_old("old.db", questions(3))
    in_process(
        "import os, signal, sqlite3",
        "connection = sqlite3.connect('old.db')",
        "connection.execute('PRAGMA cache_spill = 1')",
        "connection.execute('PRAGMA cache_size = 1')",
        "rows = [('p' + str(n), 'l', 0, 'x' * 1000) for n in range(500)]",
        f"connection.executemany({INSERT!r}, rows)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        cwd=tmp_path,
    )
    assert (tmp_path / "old.db-journal").exists()
    before = snapshot(tmp_path)
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert result.code == 1
    assert "a write to it was cut off" in result.error
    assert snapshot(tmp_path) == before


def test_a_damaged_database(askonce, tmp_path):
    write_old("old.db", [])
    insert("old.db", *((f"prompt {number}", LLM, 0, "text" * 50) for number in range(400)))
    whole = (tmp_path / "old.db").read_bytes()
    (tmp_path / "old.db").write_bytes(whole[: len(whole) // 2])
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert result.code == 1
    assert "cannot read old.db" in result.err
    assert "Traceback" not in result.err


def test_a_database_of_something_else(askonce, tmp_path):
    with contextlib.closing(sqlite3.connect("old.db")) as connection, connection:
        connection.execute("CREATE TABLE other (x)")
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert result.code == 1
    assert "no table full_llm_cache" in result.error
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("content", [b"", b"some text", b"SQLite format 3"])
def test_a_file_that_is_no_database(askonce, tmp_path, content):
    (tmp_path / "old.db").write_bytes(content)
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert result.code == 1
    assert "no SQLite database" in result.error
    assert not (tmp_path / "new.db").exists()


def test_new_that_is_old(askonce, tmp_path):
    write_old("old.db", questions(3))
    before = snapshot(tmp_path)
    result = askonce("migrate", "old.db", "sqlite:///old.db")
    assert result.code == 1
    assert "OLD itself" in result.error
    assert snapshot(tmp_path) == before


def test_a_store_that_fails_midway(askonce, monkeypatch):
    from askonce import StoreError
    from askonce.stores.sqlite import SQLiteStore

    write_old("old.db", [])
    insert("old.db", *((f"prompt {number}", LLM, 0, "text") for number in range(400)))
    write = SQLiteStore.write
    writes = []

    def full(self, entries, **settings):
        if writes:
            raise StoreError("the disk is full")
        writes.append(write(self, entries, **settings))

    monkeypatch.setattr(SQLiteStore, "write", full)
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert result.code == 1
    assert result.out == "migrated 300, already there 0, could not be read 0\n"
    assert result.err.endswith("askonce: the disk is full\n")
