"""ls, stats and clear."""

import io
import json

import pytest

from askonce import EmbeddingCache, open_store
from askonce.core import codecs, entry
from tests.cli.helpers import in_process

SCHEMES = ["sqlite:///store", "file:///store", "lmdb:///store"]


def fill(url):
    """Two namespaces, two models, and one each of expired, damaged and LangChain's."""
    with open_store(url) as store:
        for namespace, model, count in [("", "small", 3), ("team", "small", 2), ("team", "big", 1)]:
            cache = EmbeddingCache(
                lambda texts: [[1.0, 2.0] for _ in texts],
                model=model,
                namespace=namespace,
                store=store,
            )
            cache.embed([f"text {number}" for number in range(count)])
        old = entry.Entry(b"[]", codecs.JSON, created=1e9, expires=1.1e9)
        store.write(
            {
                f"team/embedding/big/{'0' * 64}": entry.pack(old),
                f"team/embedding/big/{'1' * 64}": b"ASK1 but damaged",
                f"model-name{'2' * 64}": json.dumps([1.0, 2.0]).encode(),
            }
        )


@pytest.mark.parametrize("url", SCHEMES)
def test_ls(askonce, tmp_path, url):
    fill(url)
    keys = askonce("ls", url).out.splitlines()
    with open_store(url) as store:
        assert sorted(keys) == sorted(store.keys())
    assert len(keys) == 9
    some = askonce("ls", url, "--prefix", "team/embedding/small/").out.splitlines()
    assert sorted(some) == sorted(key for key in keys if key.startswith("team/embedding/small/"))
    assert len(some) == 2


def test_ls_writes_one_harmless_line_a_key(askonce):
    with open_store("lmdb:///store") as store:
        store.write({"a\x1b[31m\nb\ud800": b""})
    assert askonce("ls", "lmdb:///store").out == "a\\x1b[31m\\nb\\ud800\n"


@pytest.mark.parametrize("url", SCHEMES)
def test_stats(askonce, url):
    fill(url)
    result = askonce("stats", url)
    head, *rows = [line.split() for line in result.out.splitlines()]
    assert result.code == 0
    assert head[1:] == ["entries", "bytes", "oldest", "newest", "expired", "damaged"]
    found = {row[0]: row[1:] for row in rows}
    counts = {"_/embedding/small": "3", "team/embedding/small": "2", "team/embedding/big": "3"}
    assert {group: found[group][0] for group in counts} == counts
    assert found["model-name"][0] == "1"
    assert found["team/embedding/big"][-2:] == ["1", "1"]
    assert found["_/embedding/small"][-2:] == ["0", "0"]
    assert found["team/embedding/big"][3].startswith("2001-09-")
    assert "1 entries are vectors as LangChain writes them" in result.out


def test_stats_shows_names_as_they_are(askonce):
    with open_store("sqlite:///store") as store:
        store.write({f"[red]name:smile:{'0' * 64}": b"[1]", f"a\nb{'0' * 64}": b"[1]"})
    out = askonce("stats", "sqlite:///store").out
    assert "[red]name:smile:" in out
    assert "a\\nb" in out


def test_stats_fits_a_terminal(askonce, monkeypatch):
    fill("sqlite:///store")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    out = askonce("stats", "sqlite:///store").out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "team/embedding/small" in out


def test_stats_of_an_empty_store(askonce):
    open_store("sqlite:///store").close()
    assert askonce("stats", "sqlite:///store").out == "The store holds no entries.\n"


@pytest.mark.parametrize("command", [["ls"], ["stats"], ["clear", "--yes", "--namespace", ""]])
@pytest.mark.parametrize("url", SCHEMES)
def test_looking_at_a_store_makes_none(askonce, tmp_path, command, url):
    result = askonce(*command, url)
    assert result.code == 1
    assert "there is no store at" in result.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", SCHEMES)
def test_clear_takes_one_namespace_only(askonce, url):
    fill(url)
    result = askonce("clear", url, "--namespace", "team", "--yes")
    assert (result.code, result.out) == (0, "Deleted 5 entries.\n")
    left = askonce("ls", url).out.splitlines()
    assert len(left) == 4
    assert not [key for key in left if key.startswith("team/")]


def test_clear_of_the_default_namespace(askonce):
    fill("sqlite:///store")
    assert askonce("clear", "sqlite:///store", "--namespace", "", "--yes").out == (
        "Deleted 3 entries.\n"
    )


@pytest.mark.parametrize(("answer", "left"), [("y", 4), ("Yes", 4), ("n", 9), ("", 9)])
def test_clear_asks(askonce, monkeypatch, answer, left):
    fill("sqlite:///store")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    result = askonce("clear", "sqlite:///store", "--namespace", "team")
    assert result.code == 0
    assert "Delete 5 entries of the namespace 'team'? [y/N]" in result.out
    assert len(askonce("ls", "sqlite:///store").out.splitlines()) == left


def test_clear_with_nobody_to_ask(askonce, monkeypatch):
    fill("sqlite:///store")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    result = askonce("clear", "sqlite:///store", "--namespace", "team")
    assert result.code == 1
    assert "give --yes" in result.err
    assert len(askonce("ls", "sqlite:///store").out.splitlines()) == 9


def test_control_c_at_the_question(tmp_path):
    result = in_process(
        "import sys, builtins, askonce",
        "from askonce.cli import main",
        "askonce.open_store('sqlite:///x.db').close()",
        "def interrupt(question): raise KeyboardInterrupt",
        "builtins.input = interrupt",
        "sys.exit(main(['clear', 'sqlite:///x.db', '--namespace', 'a']))",
        cwd=tmp_path,
    )
    assert result.code == 130
    assert "askonce: interrupted" in result.err
