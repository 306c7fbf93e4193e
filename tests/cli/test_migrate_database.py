"""Migrating databases that `langchain_community`'s SQLiteCache really wrote."""

import contextlib
import json
import signal
import sqlite3
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation

from askonce import open_store
from askonce.core import entry
from askonce.integrations.langchain import StoreCache
from tests.cli.helpers import in_process
from tests.cli.old_database import (
    INSERT,
    LLM,
    Teller,
    asked_again,
    insert,
    questions,
    snapshot,
    their_cache,
    write_old,
)

STORES = ["sqlite:///new.db", "file:///new", "lmdb:///new"]


@pytest.mark.parametrize("url", STORES)
def test_what_was_paid_for_keeps_hitting(askonce, tmp_path, url):
    paid = write_old("old.db", questions(20))
    before = snapshot(tmp_path)
    result = askonce("migrate", "old.db", url)
    assert (result.code, result.err) == (0, "")
    assert result.out == "migrated 20, already there 0, could not be read 0\n"
    assert snapshot(tmp_path) == before
    asked, answers = asked_again(url, 20)
    assert not asked
    for old, new in zip(paid, answers, strict=True):
        assert new.content == old.content
        assert new.response_metadata == old.response_metadata
        assert new.tool_calls == old.tool_calls
        assert new.usage_metadata["total_tokens"] == 0


def test_several_draws_stay_together_and_in_order(askonce):
    write_old("old.db", questions(5), draws=3)
    assert askonce("migrate", "old.db", "sqlite:///new.db").out.startswith("migrated 5, ")
    with open_store("sqlite:///new.db") as store:
        model = Teller(cache=StoreCache(store), asked=[], draws=3)
        (draws,) = model.generate([[HumanMessage("question 0 żółć")]]).generations
    assert not model.asked
    assert [draw.text for draw in draws] == [f"question 0 żółć! {draw}" for draw in range(3)]


def test_draws_written_in_any_order_and_not_from_0(askonce):
    with their_cache("old.db"):
        pass
    insert("old.db", ("p", LLM, 7, "third"), ("p", LLM, 2, "first"), ("p", LLM, 5, "second"))
    assert askonce("migrate", "old.db", "sqlite:///new.db").out.startswith("migrated 1, ")
    with open_store("sqlite:///new.db") as store:
        found = StoreCache(store).lookup("p", LLM)
    assert [one.text for one in found] == ["first", "second", "third"]


def test_rows_of_raw_text(askonce):
    with their_cache("old.db") as cache:
        cache.update("new", LLM, [Generation(text="as JSON")])
    insert("old.db", ("old", LLM, 0, "as text"), ("odd", LLM, 0, '{"looks": "like JSON"}'))
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert (result.code, result.out) == (0, "migrated 3, already there 0, could not be read 0\n")
    with open_store("sqlite:///new.db") as store:
        cache = StoreCache(store)
        assert cache.lookup("new", LLM)[0].text == "as JSON"
        assert cache.lookup("old", LLM)[0].text == "as text"
        assert cache.lookup("odd", LLM)[0].text == '{"looks": "like JSON"}'


def test_the_namespace_that_answers_go_to(askonce):
    write_old("old.db", questions(3))
    askonce("migrate", "old.db", "sqlite:///new.db", "--namespace", "team a")
    assert len(asked_again("sqlite:///new.db", 3, namespace="team a")[0]) == 0
    assert len(asked_again("sqlite:///new.db", 3)[0]) == 3


def test_entries_say_what_was_paid_and_are_no_younger_than_the_file(askonce, tmp_path):
    write_old("old.db", questions(1))
    askonce("migrate", "old.db", "sqlite:///new.db")
    with open_store("sqlite:///new.db") as store:
        (key,) = store.keys()
        found = entry.unpack(store.read([key])[0])
    assert key.startswith("_/chat/teller-1/")
    assert found.created == (tmp_path / "old.db").stat().st_mtime
    assert found.meta == {
        "model": "teller-1",
        "tokens": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5},
    }


def test_again_there_is_nothing_to_do(askonce):
    write_old("old.db", questions(5))
    askonce("migrate", "old.db", "sqlite:///new.db")
    write_old("old.db", questions(7))
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert (result.code, result.out) == (0, "migrated 2, already there 5, could not be read 0\n")


def test_prompts_that_differ_in_what_is_ignored_are_one_entry(askonce):
    """The random id of a message was in keys of LangChain's once; here the first one counts."""
    with their_cache("old.db") as cache:
        for number in range(3):
            prompt = json.dumps(
                [
                    {
                        "lc": 1,
                        "type": "constructor",
                        "id": ["langchain", "schema", "messages", "HumanMessage"],
                        "kwargs": {"content": "hi", "type": "human", "id": f"random-{number}"},
                    }
                ]
            )
            cache.update(prompt, LLM, [Generation(text=str(number))])
    result = askonce("migrate", "old.db", "sqlite:///new.db")
    assert (result.code, result.out) == (0, "migrated 1, already there 2, could not be read 0\n")
    with open_store("sqlite:///new.db") as store:
        assert StoreCache(store).lookup(prompt, LLM)[0].text == "0"


@pytest.mark.parametrize("url", STORES)
def test_killed_midway_it_goes_on(askonce, tmp_path, url):
    with their_cache("old.db") as cache:
        cache.update("p", LLM, [Generation(text="t")])
    insert("old.db", *((f"prompt {number}", LLM, 0, f"text {number}") for number in range(999)))
    stopped = in_process(
        "import os, signal, sys",
        "from askonce.cli import main, migrate",
        "opened = migrate.open_store",
        "def open_store(url):",
        "    store = opened(url)",
        "    write, writes = store.write, []",
        "    def fatal_write(entries):",
        "        if len(writes) == 2:",
        "            os.kill(os.getpid(), signal.SIGKILL)",
        "        writes.append(write(entries))",
        "    store.write = fatal_write",
        "    return store",
        "migrate.open_store = open_store",
        f"sys.exit(main(['migrate', 'old.db', {url!r}]))",
        cwd=tmp_path,
    )
    assert stopped.code == -signal.SIGKILL
    result = askonce("migrate", "old.db", url)
    assert (result.code, result.out) == (
        0,
        "migrated 400, already there 600, could not be read 0\n",
    )
    with open_store(url) as store:
        cache = StoreCache(store)
        for number in range(999):
            assert cache.lookup(f"prompt {number}", LLM)[0].text == f"text {number}"


def test_a_name_that_means_something_in_a_url(askonce):
    write_old("old.db", questions(2))
    Path("old.db").rename("old ?#%41.db")
    assert askonce("migrate", "old ?#%41.db", "sqlite:///new.db").out.startswith("migrated 2, ")


def test_others_may_write_meanwhile(askonce, monkeypatch):
    """No lock is held between batches: what is written before the end is migrated too."""
    write_old("old.db", [])
    insert("old.db", *((f"prompt {number}", LLM, 0, "text") for number in range(400)))
    from askonce.cli import migration

    copy = migration.Copy._copy_batch

    def copy_and_insert(self, items):
        copy(self, items)
        if len(items) == migration.AT_ONCE:
            with contextlib.closing(sqlite3.connect("old.db", timeout=0)) as other, other:
                other.execute(INSERT, ("late", LLM, 0, "text"))

    monkeypatch.setattr(migration.Copy, "_copy_batch", copy_and_insert)
    assert askonce("migrate", "old.db", "sqlite:///new.db").out.startswith("migrated 401, ")


def test_a_database_with_write_ahead_log(askonce):
    write_old("old.db", questions(3))
    with contextlib.closing(sqlite3.connect("old.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute(INSERT, ("in the log", LLM, 0, "text"))
        assert askonce("migrate", "old.db", "sqlite:///new.db").out.startswith("migrated 4, ")
