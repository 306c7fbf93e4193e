"""export: what a file holds, and who else reads it."""

import math
from pathlib import Path

import pytest
from pyarrow import parquet

from askonce import archive, open_store
from askonce.core import entry
from tests.cli.transfers import PLACES, content, damage, fill, packed


@pytest.mark.parametrize("src", PLACES)
def test_export_and_import_keep_every_byte(askonce, src):
    fill(src.format("src"))
    result = askonce("export", src.format("src"), "x.parquet")
    assert (result.code, result.out, result.err) == (0, "exported 292\n", "")
    result = askonce("import", "x.parquet", "lmdb:///dst", "--verify")
    assert (result.code, result.out, result.err) == (0, "imported 292\n", "")
    assert content("lmdb:///dst") == content(src.format("src"))
    assert askonce("import", "x.parquet", "lmdb:///dst").out == "imported 0, already there 292\n"


def test_a_file_is_not_written_over_unless_asked_for(askonce):
    fill("sqlite:///src.db")
    Path("x").write_text("precious")
    assert "there is a file x already" in askonce("export", "sqlite:///src.db", "x").error
    assert Path("x").read_text() == "precious"
    assert askonce("export", "sqlite:///src.db", "x", "--overwrite").code == 0
    Path("folder").mkdir()
    assert "is a folder" in askonce("export", "sqlite:///src.db", "folder").error


def test_damaged_entries_are_not_exported(askonce):
    with open_store("sqlite:///src.db") as store:
        damage(store)
        store.write({"a/old": packed(expires=5.0)})
    result = askonce("export", "sqlite:///src.db", "x")
    assert (result.code, result.out) == (2, "exported 1, expired 1, with problems 3\n")
    assert archive.count_of(Path("x")) == 1


def test_a_key_that_is_no_text_is_told(askonce):
    with open_store("lmdb:///src") as store:
        store.write({"a/\ud800": packed(), "a/1": packed()})
    result = askonce("export", "lmdb:///src", "x")
    assert (result.code, result.out) == (2, "exported 1, with problems 1\n")
    assert "a/\\ud800: its key is no text" in result.err


def test_other_programs_read_the_file(askonce):
    import duckdb
    import polars

    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x.parquet")
    rows = duckdb.sql("SELECT key, value FROM 'x.parquet'").fetchall()
    assert dict(rows) == content("sqlite:///src.db")
    frame = polars.read_parquet("x.parquet")
    assert dict(frame.select("key", "value").rows()) == dict(rows)
    assert frame["expires"].null_count() == 253
    assert frame["created"].null_count() == 1
    duckdb.sql("COPY (SELECT * FROM 'x.parquet' WHERE key LIKE '_/chat/%') TO 'y.parquet'")
    assert askonce("import", "y.parquet", "sqlite:///dst.db").out == "imported 39\n"


def test_odd_times_are_no_dates(askonce):
    ends = [math.inf, 1e300, 3e11, math.nan]
    made = [-1.0, 0.0, math.nan, 1e300]
    with open_store("sqlite:///src.db") as store:
        for number, (created, end) in enumerate(zip(made, ends, strict=True)):
            store.write({f"a/{number}": entry.pack(entry.Entry(b"{}", 16, created, end))})
    assert askonce("export", "sqlite:///src.db", "x").code == 0
    assert parquet.read_table("x")["expires"].to_pylist() == [None] * 4
    assert askonce("import", "x", "sqlite:///dst.db", "--verify").code == 0
    assert content("sqlite:///dst.db") == content("sqlite:///src.db")
