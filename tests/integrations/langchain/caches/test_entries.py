"""What is stored of an answer: once, all of it, and only what can be read back."""

import sqlite3

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel

from askonce.integrations.langchain import InMemoryCache, SQLiteCache
from tests.integrations.langchain.chat_models import CountingChat, SerializableChat


class OwnMessage(AIMessage):
    pass


class Opaque(BaseModel):
    field: int = 1


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("x", response_metadata={"raw": Opaque()}),
        AIMessage("x", response_metadata={"raw": b"bytes"}),
        AIMessage("x", response_metadata={"raw": object()}),
        AIMessage("x", response_metadata={"raw": (1, 2)}),
        AIMessage("x", response_metadata={1: 2}),
        AIMessage("x", additional_kwargs={"logprob": float("nan")}),
        AIMessage([{"type": "image", "data": b"bytes"}]),
        OwnMessage("x"),
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_cannot_be_read_back_is_never_stored(message):
    events = []
    cache = InMemoryCache(observe=events.append)
    cache.update("prompt", "model", [ChatGeneration(message=message)])
    assert cache.lookup("prompt", "model") is None
    assert list(cache.store.keys()) == []
    assert [event.kind for event in events] == ["miss", "refused"]
    assert events[1].reason
    assert events[1].code == "not_plain"


def entries(path, change):
    with sqlite3.connect(path) as connection:
        for identifier, value in connection.execute("SELECT id, value FROM askonce_entries"):
            connection.execute(
                "UPDATE askonce_entries SET value = ? WHERE id = ?", (change(value), identifier)
            )
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: b"",
        lambda value: value[:50],
        lambda value: value[:-8],
        lambda value: value.replace(b"answer", b"Answer"),
        lambda value: b'{"lc": 1, "type": "constructor", "id": [] }',
    ],
)
def test_a_row_that_cannot_be_decoded_is_a_miss(tmp_path, damage):
    path = tmp_path / "answers.db"
    model = CountingChat(cache=SQLiteCache(path))
    model.invoke("hi")
    entries(path, damage)
    assert model.invoke("hi").content == "answer 2"
    assert model.invoke("hi").content == "answer 2"
    assert len(model.calls) == 2


def test_a_long_prompt_is_stored_once_not_thrice(tmp_path):
    path = tmp_path / "answers.db"
    cache = SQLiteCache(path)
    for number in range(200):
        cache.update(f"{number}" + "x" * 8000, "model", [Generation(text="short")])
    cache.close()
    assert path.stat().st_size < 200 * 1000


def test_all_generations_are_kept(cache):
    answers = [ChatGeneration(message=AIMessage(text)) for text in "abc"]
    cache.update("prompt", "model", answers)
    assert [found.text for found in cache.lookup("prompt", "model")] == ["a", "b", "c"]


def test_distinct_samples_are_kept_apart_by_their_number(cache):
    model = SerializableChat(cache=cache)
    drawn = [model.invoke("hi", seed=seed).content for seed in (0, 1, 2, 0, 1, 2)]
    assert drawn == ["answer 1", "answer 2", "answer 3"] * 2


def test_what_is_kept_in_memory_can_be_seen():
    cache = InMemoryCache(maxsize=2)
    assert cache._cache == {}
    cache.update("prompt", "model", [Generation(text="text")])
    assert list(cache._cache.values()) == [[Generation(text="text")]]
