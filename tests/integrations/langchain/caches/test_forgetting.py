"""Answers that expire, are given up, are cleared, or are another tenant's."""

import pytest
from langchain_core.outputs import Generation

from askonce.errors import InputError
from askonce.integrations.langchain import InMemoryCache, SQLiteCache, StoreCache
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.chat_models import CountingChat, SerializableChat


def test_answers_expire():
    model = CountingChat(cache=StoreCache("memory://", ttl=1e-9))
    model.invoke("hi")
    assert model.invoke("hi").content == "answer 2"
    model = CountingChat(cache=StoreCache("memory://", ttl=1000.0))
    model.invoke("hi")
    assert model.invoke("hi").content == "answer 1"
    with pytest.raises(InputError):
        StoreCache("memory://", ttl=0)


def test_the_least_recently_used_answer_goes_first_and_rewriting_evicts_none():
    cache = InMemoryCache(maxsize=2)
    for prompt in ("a", "b", "b", "b"):
        cache.update(prompt, "model", [Generation(text=prompt)])
    assert cache.lookup("a", "model")
    cache.update("c", "model", [Generation(text="c")])
    assert cache.lookup("b", "model") is None
    assert cache.lookup("a", "model")
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="maxsize must be greater than 0"):
            InMemoryCache(maxsize=wrong)


def test_clear_forgets_one_namespace_and_nothing_else():
    store = MemoryStore()
    ours, theirs = StoreCache(store, namespace="ours"), StoreCache(store, namespace="theirs")
    store.write({"ours/embedding/model/1": b"a vector"})
    for cache in (ours, theirs):
        cache.update("prompt", "model", [Generation(text=cache.namespace)])
    ours.clear()
    assert ours.lookup("prompt", "model") is None
    assert theirs.lookup("prompt", "model")[0].text == "theirs"
    assert store.read(["ours/embedding/model/1"]) == [b"a vector"]


def test_clear_lasts(tmp_path):
    SQLiteCache(tmp_path / "answers.db").update("prompt", "model", [Generation(text="old")])
    SQLiteCache(tmp_path / "answers.db").clear()
    assert SQLiteCache(tmp_path / "answers.db").lookup("prompt", "model") is None


def test_a_namespace_is_a_wall_between_tenants():
    store = MemoryStore()
    models = [SerializableChat(cache=StoreCache(store, namespace=name)) for name in ("A", "B")]
    for model in models:
        model.invoke("hi")
    assert [len(model.calls) for model in models] == [1, 1]
