"""import: files of other programs and versions, damaged ones, and what is no export."""

import os
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from askonce import open_store
from tests.cli.transfers import content, fill, packed


def test_a_file_of_a_newer_format_is_refused(askonce):
    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x")
    found = parquet.read_table("x")
    parquet.write_table(found.replace_schema_metadata({"askonce:format": "2"}), "y")
    result = askonce("import", "y", "sqlite:///dst.db")
    assert result.code == 1
    assert "format 2, which a newer askonce wrote, and this one knows format 1" in result.error
    assert not Path("dst.db").exists()


def write(path, **columns):
    parquet.write_table(arrow.table(columns), path)


def test_files_that_are_no_exports(askonce):
    Path("text").write_text("no Parquet")
    write("other", id=[1, 2])
    write("numbers", key=["a"], value=[1.0])
    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x")
    Path("cut").write_bytes(Path("x").read_bytes()[:-1000])
    for name, said in [
        ("text", "no whole Parquet file"),
        ("cut", "no whole Parquet file"),
        ("other", "no column 'key' of texts"),
        ("numbers", "no column 'value' of bytes"),
    ]:
        assert said in askonce("import", name, "sqlite:///dst.db").error
    assert not Path("dst.db").exists()


def test_damage_in_a_file_is_found(askonce):
    with open_store("sqlite:///src.db") as store:
        store.write({f"a/{number}": b"foreign " + os.urandom(2000) for number in range(2000)})
    askonce("export", "sqlite:///src.db", "x")
    whole = bytearray(Path("x").read_bytes())
    whole[len(whole) // 2] ^= 1
    Path("x").write_bytes(whole)
    result = askonce("import", "x", "sqlite:///dst.db")
    assert result.code == 1
    assert "x is damaged after" in result.err
    assert content("sqlite:///dst.db").items() <= content("sqlite:///src.db").items()


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_files_of_other_programs(askonce, kind):
    binary = {"string": "binary", "large_string": "large_binary", "string_view": "binary_view"}[kind]
    value = packed()
    write(
        "x",
        value=arrow.array([value, None, b"[1.0]"], getattr(arrow, binary)()),
        key=arrow.array(["a/1", "a/2", "a/3"], getattr(arrow, kind)()),
    )
    assert askonce("import", "x", "sqlite:///dst.db").out == "imported 2\n"
    assert content("sqlite:///dst.db") == {"a/1": value, "a/3": b"[1.0]"}
