"""Migrating databases that `langchain_community`'s SQLiteCache really wrote."""

import contextlib
import json
import signal
import sqlite3
import warnings
from pathlib import Path

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_community.cache import SQLiteCache as TheirCache

from askonce import open_store
from askonce.core import entry
from askonce.integrations.langchain import StoreCache
from tests.cli.helpers import in_process

STORES = ["sqlite:///new.db", "file:///new", "lmdb:///new"]
INSERT = "INSERT INTO full_llm_cache (prompt, llm, idx, response) VALUES (?, ?, ?, ?)"
LLM = "[('model_name', 'teller-1'), ('stop', None)]"


class Teller(BaseChatModel):
    """Answer by repeating, and count."""

    model_name: str = "teller-1"
    asked: list[str] = []
    draws: int = 1

    @property
    def _llm_type(self):
        return "teller"

    @property
    def _identifying_params(self):
        return {"model_name": self.model_name, "draws": self.draws}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = messages[-1].text
        self.asked.append(text)
        return ChatResult(
            generations=[
                ChatGeneration(
                    message=AIMessage(
                        f"{text}! {draw}",
                        response_metadata={"finish_reason": "stop", "draw": draw},
                        usage_metadata={
                            "input_tokens": 2,
                            "output_tokens": 3,
                            "total_tokens": 5,
                        },
                        tool_calls=[{"name": "tell", "args": {"x": [1]}, "id": "call-1"}],
                    ),
                    generation_info={"logprobs": None},
                )
                for draw in range(self.draws)
            ]
        )


@contextlib.contextmanager
def their_cache(path):
    cache = TheirCache(database_path=str(path))
    try:
        yield cache
    finally:
        cache.engine.dispose()


def write_old(path, questions, **settings):
    with their_cache(path) as cache:
        model = Teller(cache=cache, asked=[], **settings)
        return [model.invoke(question) for question in questions]


def insert(path, *rows):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(INSERT, rows)


def questions(count):
    return [f"question {number} żółć" for number in range(count)]


def snapshot(folder, name="old.db"):
    """Everything about the database that must stay as it is, the files beside it included."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.glob(f"{name}*"))
    }


def asked_again(url, count, *, namespace="", **settings):
    """What a model behind our cache over this store is still asked."""
    with open_store(url) as store:
        model = Teller(cache=StoreCache(store, namespace=namespace), asked=[], **settings)
        answers = [model.invoke(question) for question in questions(count)]
    return model.asked, answers


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


def test_a_database_with_write_ahead_log(askonce):
    write_old("old.db", questions(3))
    with contextlib.closing(sqlite3.connect("old.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute(INSERT, ("in the log", LLM, 0, "text"))
        assert askonce("migrate", "old.db", "sqlite:///new.db").out.startswith("migrated 4, ")


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
