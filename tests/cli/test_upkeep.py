"""prune, vacuum and verify."""

import json
import os
import time

import pytest

from askonce import EmbeddingCache, open_store
from askonce.core import codecs, entry

SCHEMES = ["sqlite:///store", "file:///store", "lmdb:///store"]
each = pytest.mark.parametrize("url", SCHEMES)
DAY = 86400


def packed(age=0.0, expires=entry.NEVER):
    return entry.pack(entry.Entry(b"{}", codecs.JSON, time.time() - age, expires))


def fill(url):
    with open_store(url) as store:
        cache = EmbeddingCache(lambda texts: [[1.0, 2.0]] * len(texts), model="m", store=store)
        cache.embed([f"text {number}" for number in range(10)])
        store.write(
            {
                "team/embedding/m/old": packed(40 * DAY),
                "team/embedding/m/new": packed(20 * DAY),
                "_/embedding/m/old": packed(40 * DAY),
                "langchain": json.dumps([1.0, 2.0]).encode(),
            }
        )
        store.write({"_/embedding/m/expired": packed(expires=2.0)}, expires=2.0)


def keys(url):
    with open_store(url) as store:
        return set(store.keys())


@each
def test_prune(askonce, url):
    fill(url)
    result = askonce("prune", url)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Deleted 1 entries; the store takes ")
    assert len(keys(url)) == 14


@each
def test_prune_by_age_and_namespace(askonce, url):
    fill(url)
    for arguments, count in [
        (["--namespace", "team", "--older-than", "6w"], 0),
        (["--namespace", "team", "--older-than", "30d"], 1),
        (["--older-than", "719h", "--namespace", ""], 2),
        (["--older-than", "15d"], 1),
        (["--older-than", "1.5m"], 0),
    ]:
        assert askonce("prune", url, *arguments).out.startswith(f"Deleted {count} entries;")
    assert len(keys(url)) == 11


@each
def test_prune_to_a_size(askonce, url):
    fill(url)
    with open_store(url) as store:
        for start in range(0, 1000, 100):
            store.write({f"a/{start + part}": os.urandom(5_000) for part in range(100)})
    result = askonce("prune", url, "--max-bytes", "3MB")
    assert result.code == 0
    with open_store(url) as store:
        left = len(list(store.keys()))
        assert 300 < left < 600
        assert result.out.startswith(f"Deleted {1015 - left} entries;")
    assert askonce("prune", f"{url}?max_bytes=5GB", "--max-bytes", "2MB").code == 0
    assert len(keys(url)) < left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than", "30"], "'30' is not an age; write for example 12h, 30d or 8w"),
        (["--older-than", "d"], "is not an age"),
        (["--older-than", "-3d"], "is not an age"),
        (["--older-than", "nand"], "is not an age"),
        (["--older-than", ""], "is not an age"),
        (["--max-bytes", "much"], "'much' is not a size"),
        (["--max-bytes", "1KB"], "at least 1MiB"),
    ],
)
def test_prune_refuses_what_it_cannot_read(askonce, arguments, message):
    fill(SCHEMES[0])
    result = askonce("prune", SCHEMES[0], *arguments)
    assert result.code == 1
    assert message in result.error
    assert len(keys(SCHEMES[0])) == 15


@each
def test_vacuum(askonce, url):
    with open_store(url) as store:
        store.write({f"a/{number}": os.urandom(5_000) for number in range(500)})
        store.delete([f"a/{number}" for number in range(450)])
    result = askonce("vacuum", url)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Gave back ")
    assert "; the store takes " in result.out
    if not url.startswith("file"):  # there, what was deleted is gone already
        assert " MiB; the store takes " in result.out
        assert not result.out.startswith("Gave back 0")
    assert len(keys(url)) == 50


@each
def test_verify_a_sound_store(askonce, url):
    fill(url)
    result = askonce("verify", url)
    assert (result.code, result.err) == (0, "")
    assert result.out == "whole 14, foreign 1, damaged 0\n"


@each
def test_verify_and_repair(askonce, tmp_path, url):
    fill(url)
    with open_store(url) as store:
        store.write({"a/cut\n": packed()[:-8], "a/empty": b""})
    result = askonce("verify", url, "--report", "report.jsonl")
    assert result.code == 2
    assert result.out == "whole 14, foreign 1, damaged 2\n"
    assert "a/cut\\n: a part of it is missing\n" in result.err
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert sorted((line["key"], line["deleted"]) for line in lines) == [
        ("a/cut\n", False),
        ("a/empty", False),
    ]
    assert len(keys(url)) == 17
    result = askonce("verify", url, "--repair", "--report", "report.jsonl")
    assert result.code == 0
    assert result.out == "whole 14, foreign 1, damaged 2, of which 2 were deleted\n"
    lines = (tmp_path / "report.jsonl").read_text().splitlines()
    assert all(json.loads(line)["deleted"] for line in lines)
    assert len(keys(url)) == 15
    assert askonce("verify", url, "--repair").out == "whole 14, foreign 1, damaged 0\n"


def test_verify_shows_the_first_of_many(askonce):
    with open_store(SCHEMES[0]) as store:
        store.write({f"a/{number}": b"" for number in range(30)})
    result = askonce("verify", SCHEMES[0])
    assert len(result.err.splitlines()) == 21
    assert "and 10 more; --report FILE" in result.err


@pytest.mark.parametrize("command", ["prune", "vacuum", "verify"])
@each
def test_looking_after_a_store_makes_none(askonce, tmp_path, command, url):
    result = askonce(command, url)
    assert result.code == 1
    assert "there is no store at" in result.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["verify"], ["prune", "--older-than", "1d"]])
def test_on_a_terminal_there_is_a_bar(askonce, monkeypatch, command):
    fill(SCHEMES[0])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = askonce(*command, SCHEMES[0])
    assert result.code == 0
    assert ("verifying" if "verify" in command else "pruning") in result.err
