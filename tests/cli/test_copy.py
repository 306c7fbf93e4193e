"""copy, on real stores."""

import json
import math
import time
from pathlib import Path

import pytest

from askonce import open_store
from askonce.core import entry
from tests.cli.transfers import PLACES, content, damage, fill, packed
from tests.servers.postgres import postgres, table

__all__ = ["postgres", "table"]


@pytest.mark.parametrize("dst", PLACES)
@pytest.mark.parametrize("src", PLACES)
def test_copies_every_byte_between_any_two(askonce, src, dst):
    src, dst = src.format("src"), dst.format("dst")
    fill(src)
    before = content(src)
    result = askonce("copy", src, dst, "--verify")
    assert (result.code, result.out, result.err) == (0, "copied 292\n", "")
    assert content(dst) == before == content(src)
    assert askonce("copy", src, dst).out == "copied 0, already there 292\n"


def test_copies_to_a_server_and_back(askonce, postgres, table):
    fill("sqlite:///src.db")
    url = postgres.url(table=table)
    assert askonce("copy", "sqlite:///src.db", url, "--verify").out == "copied 292\n"
    assert askonce("copy", url, "lmdb:///dst").out == "copied 292\n"
    assert content("lmdb:///dst") == content("sqlite:///src.db")
    ends = dict(postgres.execute(f"SELECT key, expires FROM {table}"))
    assert ends["langchain"] == math.inf
    for hours in range(1, 40):
        (_, end) = entry.times_of(content("lmdb:///dst")[f"_/chat/m/{hours}"])
        left = end - time.time()
        assert end <= ends[f"_/chat/m/{hours}"] <= end + left / 7


def test_copies_by_prefix(askonce):
    fill("sqlite:///src.db")
    assert askonce("copy", "sqlite:///src.db", "file:///dst", "--prefix", "_/chat/").out == "copied 39\n"
    assert all(key.startswith("_/chat/") for key in content("file:///dst"))


def test_what_expired_or_belongs_to_the_store_itself_stays_behind(askonce):
    with open_store("sqlite:///src.db") as store:
        store.write({"a/old": packed(expires=5.0), "a/new": packed(), "~askonce/x": packed()})
    assert askonce("copy", "sqlite:///src.db", "lmdb:///dst").out == "copied 1, expired 1\n"
    assert list(content("lmdb:///dst")) == ["a/new"]


@pytest.mark.parametrize(
    ("options", "wins"),
    [([], {"a/1": "dst", "a/2": "src", "a/3": "src"}),
     (["--skip-existing"], {"a/1": "dst", "a/2": "dst", "a/3": "src"}),
     (["--overwrite"], {"a/1": "src", "a/2": "src", "a/3": "src"})],
)  # fmt: skip
def test_what_is_there_already(askonce, options, wins):
    src = {"a/1": packed(b"src", age=9), "a/2": packed(b"src"), "a/3": packed(b"src", age=9)}
    dst = {"a/1": packed(b"dst"), "a/2": packed(b"dst", age=9), "a/3": packed(b"dst", expires=4)}
    for url, entries in ("sqlite:///src.db", src), ("sqlite:///dst.db", dst):
        with open_store(url) as store:
            store.write(entries)
    result = askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", *options, "--verify")
    assert result.code == 0
    found = {key: entry.unpack(value).payload for key, value in content("sqlite:///dst.db").items()}
    assert {key: payload.decode() for key, payload in found.items()} == wins
    assert askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", *options).out.startswith("copied 0,")


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_the_epoch_of_a_tag_never_goes_back(askonce, options):
    key = "team/tag/news"
    with open_store("sqlite:///src.db") as store:
        store.write({key: packed(b"old", age=9)})
    with open_store("sqlite:///dst.db") as store:
        store.write({key: packed(b"new")})
    assert askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", *options).code == 0
    assert entry.unpack(content("sqlite:///dst.db")[key]).payload == b"new"
    assert askonce("copy", "sqlite:///dst.db", "sqlite:///src.db").out == "copied 1\n"


def test_damaged_entries_are_told_and_stay_behind(askonce):
    with open_store("sqlite:///src.db") as store:
        damage(store)
        store.write({f"b/{number:02}": b"ASK1 torn" for number in range(30)})
    with open_store("sqlite:///dst.db") as store:
        store.write({"a/torn": packed(b"good")})
    result = askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", "--report", "report")
    assert (result.code, result.out) == (2, "copied 1, with problems 33\n")
    assert "a/torn: a part of it is missing" in result.err
    assert "a/\\n: a part of it is missing" in result.err
    assert result.err.endswith("and more; --report FILE writes all of them to a file\n")
    assert len(list(map(json.loads, Path("report").read_text().splitlines()))) == 33
    assert set(content("sqlite:///dst.db")) == {"a/good", "a/torn"}
    assert entry.unpack(content("sqlite:///dst.db")["a/torn"]).payload == b"good"


def test_damage_in_the_target_is_replaced(askonce):
    value = packed()
    with open_store("sqlite:///src.db") as store:
        store.write({"a/1": value})
    with open_store("sqlite:///dst.db") as store:
        store.write({"a/1": value[:-8] + b"12345678"})
    assert askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", "--skip-existing").code == 0
    assert content("sqlite:///dst.db") == {"a/1": value}


def test_what_the_target_does_not_take(askonce):
    with open_store("sqlite:///src.db") as store:
        store.write({"a/1": packed(), "b" * 600: packed(), "c/1": packed()})
    result = askonce("copy", "sqlite:///src.db", "lmdb:///dst")
    assert (result.code, result.out) == (2, "copied 2, with problems 1\n")
    assert "the store does not take it: LMDB keys have 1 to 511 bytes" in result.err


@pytest.mark.parametrize("dst", ["sqlite:///src.db", "file:///./src.db", "lmdb:///src.db/below"])
def test_does_not_write_into_what_it_reads(askonce, dst):
    fill("sqlite:///src.db")
    assert "only read" in askonce("copy", "sqlite:///src.db", dst).error


def test_options_that_exclude_each_other(askonce):
    fill("sqlite:///src.db")
    result = askonce("copy", "sqlite:///src.db", "file:///dst", "--overwrite", "--skip-existing")
    assert "exclude each other" in result.error
