"""What was paid for with LangChain's own SQLiteCache keeps hitting, and stays as it is."""

import sqlite3
import warnings

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation

from askonce.errors import StoreError
from askonce.integrations.langchain import SQLiteCache
from askonce.integrations.langchain.legacy_sqlite import LegacyTable, read_rows
from tests.integrations.langchain.chat_models import CountingChat, SerializableChat

SCHEMA = (
    "CREATE TABLE full_llm_cache (prompt VARCHAR NOT NULL, llm VARCHAR NOT NULL, "
    "idx INTEGER NOT NULL, response VARCHAR, PRIMARY KEY (prompt, llm, idx))"
)
MESSAGE = AIMessage(
    "paid for",
    id="lc_run--old",
    response_metadata={"model_name": "gpt-4o", "user": {"lc": 1, "type": "secret", "id": ["HOME"]}},
    usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}],
)
PAID = dumps(ChatGeneration(message=MESSAGE, generation_info={"finish_reason": "stop"}))


def write(path, *rows):
    connection = sqlite3.connect(path)
    connection.execute(SCHEMA)
    connection.executemany("INSERT INTO full_llm_cache VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()


def rows_of(path):
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM full_llm_cache ORDER BY 1, 2, 3").fetchall()
    connection.close()
    return rows


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".langchain.db"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [CountingChat, SerializableChat])
async def test_a_file_of_langchains_own_cache_keeps_hitting(path, kind):
    from langchain_community.cache import SQLiteCache as LangChainSQLiteCache

    theirs = LangChainSQLiteCache(str(path))
    before = kind(cache=theirs)
    paid = [before.invoke(text) for text in ("a", "b")]
    theirs.engine.dispose()
    rows = rows_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = kind(cache=SQLiteCache(str(path)))
        found = [after.invoke("a"), await after.ainvoke("b"), after.invoke("b")]
    assert len(after.calls) == 0
    assert [one.content for one in found] == ["answer 1", "answer 2", "answer 2"]
    assert found[0].response_metadata == paid[0].response_metadata
    assert found[0].id != paid[0].id
    assert found[0].usage_metadata["total_tokens"] == 0
    assert found[0].additional_kwargs == {"cache_hit": True}
    assert rows_of(path) == rows


def test_generations_come_in_their_order_with_all_they_hold(path):
    second = dumps(ChatGeneration(message=AIMessage("second")))
    write(path, ("p", "l", 1, second), ("p", "l", 0, PAID))
    found = SQLiteCache(path).lookup("p", "l")
    assert [one.text for one in found] == ["paid for", "second"]
    assert found[0].message.tool_calls == MESSAGE.tool_calls
    assert found[0].message.response_metadata == MESSAGE.response_metadata
    assert found[0].generation_info == {"finish_reason": "stop", "cache_hit": True}


def test_rows_of_raw_text_are_answers(path):
    texts = ["just text", '{"json": "of a model"}', "[1]", "", "{", "lc"]
    write(path, *((f"p{index}", "l", 0, text) for index, text in enumerate(texts)))
    cache = SQLiteCache(path)
    for index, text in enumerate(texts):
        assert cache.lookup(f"p{index}", "l") == [Generation(text=text)]
    model = CountingChat(cache=cache)
    prompt = dumps([HumanMessage("hi")])
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO full_llm_cache VALUES (?, ?, 0, 'old')", (prompt, model._get_llm_string())
    )
    connection.commit()
    connection.close()
    assert model.invoke("hi").content == "old"


@pytest.mark.parametrize(
    "row",
    [
        PAID[:-1],
        PAID[: len(PAID) // 2],
        PAID.replace('"AIMessage"', '"OwnMessage"'),
        PAID.replace('"ChatGeneration"]', '"ChatPromptTemplate"]'),
        PAID.replace('"content": "paid for"', '"content": 7'),
        PAID.replace('"finish_reason": "stop"', '"raw": {"lc": 1, "type": "not_implemented"}'),
        PAID.replace('"finish_reason": "stop"', '"raw": NaN'),
        dumps(AIMessage("no generation")),
        dumps(ChatGeneration(message=AIMessage("x", response_metadata={"a": object()}))),
        '{"lc": 1, "type": "secret", "id": ["HOME"]}',
        '{"lc": 1}',
        None,
        b"bytes",
        7,
    ],
    ids=lambda row: str(row)[-60:],
)
def test_a_damaged_or_unknown_row_is_a_miss_never_an_answer(path, row):
    write(path, ("p", "l", 0, row), ("p", "l", 1, PAID))
    before = rows_of(path)
    cache = SQLiteCache(path)
    if isinstance(row, int):
        assert read_rows([row]) is None
        return
    assert cache.lookup("p", "l") is None
    cache.update("p", "l", [Generation(text="new")])
    assert cache.lookup("p", "l") == [Generation(text="new")]
    assert rows_of(path) == before


def test_a_hit_is_copied_so_that_normalised_keys_hit_from_then_on(path):
    model = CountingChat()
    exact = dumps([HumanMessage("hi"), AIMessage("ho", usage_metadata=MESSAGE.usage_metadata)])
    write(path, (exact, model._get_llm_string(), 0, PAID))
    cache = SQLiteCache(path)
    other = dumps([HumanMessage("hi"), AIMessage("ho")])
    assert cache.lookup(other, model._get_llm_string()) is None
    assert cache.lookup(exact, model._get_llm_string())[0].text == "paid for"
    assert cache.lookup(other, model._get_llm_string())[0].text == "paid for"
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE full_llm_cache")
    connection.close()
    assert SQLiteCache(path).lookup(exact, model._get_llm_string())[0].text == "paid for"


async def test_cleared_is_cleared_though_no_row_of_theirs_is_deleted(path):
    write(path, ("p", "l", 0, PAID), ("q", "l", 0, PAID))
    before = rows_of(path)
    cache = SQLiteCache(path)
    assert cache.lookup("p", "l")
    beside = SQLiteCache(path)
    cache.clear()
    for one in (cache, beside, SQLiteCache(path)):
        assert one.lookup("p", "l") is None
        assert await one.alookup("q", "l") is None
    assert rows_of(path) == before
    cache.update("p", "l", [Generation(text="new")])
    assert SQLiteCache(path).lookup("p", "l") == [Generation(text="new")]
    await beside.aclear()
    assert cache.lookup("p", "l") is None


def test_their_answers_belong_to_the_default_namespace(path):
    write(path, ("p", "l", 0, PAID))
    assert SQLiteCache(path, namespace="tenant").lookup("p", "l") is None
    SQLiteCache(path, namespace="tenant").clear()
    assert SQLiteCache(path).lookup("p", "l")


def test_a_copied_answer_expires_as_others_do(path):
    write(path, ("p", "l", 0, PAID))
    assert SQLiteCache(path, ttl=1000.0).lookup("p", "l")
    assert SQLiteCache(path).lookup("p", "l")


def test_all_answers_can_be_listed(path):
    write(path, ("p", "l", 0, PAID), ("p", "l", 1, "text"), ("p", "m", 0, '{"lc": 1'), ("q", "l", 0, "x"))
    listed = list(LegacyTable(path).answers())
    assert [(prompt, llm) for prompt, llm, _ in listed] == [("p", "l"), ("p", "m"), ("q", "l")]
    assert [one.text for one in listed[0][2]] == ["paid for", "text"]
    assert listed[1][2] is None
    assert listed[2][2] == [Generation(text="x")]


def test_a_file_that_may_not_be_written_is_read_and_calls_go_on(path):
    write(path, ("p", "l", 0, PAID))
    with path.open("r+b") as file:
        file.seek(18)  # by this byte a newer SQLite tells older ones: read, do not write
        file.write(b"\x03")
    content = path.read_bytes()
    events = []
    cache = SQLiteCache(path, observe=events.append)
    assert [event.kind for event in events] == ["store_failed"]
    assert cache.lookup("p", "l")[0].text == "paid for"
    model = CountingChat(cache=cache)
    assert [model.invoke("hi").content for _ in range(2)] == ["answer 1"] * 2
    cache.clear()
    assert cache.lookup("p", "l") is None
    assert path.read_bytes() == content


def test_a_table_that_breaks_later_breaks_no_call(path):
    write(path, ("p", "l", 0, PAID))
    events = []
    cache = SQLiteCache(path, observe=events.append)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE full_llm_cache")
    connection.close()
    assert cache.lookup("p", "l") is None
    assert [event.kind for event in events] == ["store_failed"]


def test_a_path_that_cannot_be_a_cache_is_told_at_once(tmp_path):
    (tmp_path / "text.db").write_text("not a database" * 100)
    for wrong in (tmp_path, tmp_path / "text.db"):
        with pytest.raises(StoreError):
            SQLiteCache(wrong)


def test_memory_paths_make_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (":memory:", ""):
        cache = SQLiteCache(path)
        cache.update("p", "l", [Generation(text="x")])
        assert cache.lookup("p", "l") == [Generation(text="x")]
        cache.close()
    assert list(tmp_path.iterdir()) == []


def test_the_default_file_is_the_one_of_langchain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = SQLiteCache()
    cache.close()
    assert (tmp_path / ".langchain.db").exists()
