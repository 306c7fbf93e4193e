"""Stores that fail, or hold what is no vector."""

import asyncio

import pytest
from langchain_core.stores import InMemoryByteStore as LangChainInMemoryByteStore
from langchain_core.stores import InMemoryStore as LangChainInMemoryStore

from tests.integrations.langchain.embedding_models import cached


class BrokenStore(LangChainInMemoryByteStore):
    def mget(self, keys):
        raise OSError("the disk is gone")

    def mset(self, pairs):
        raise OSError("the disk is gone")


class ShortStore(LangChainInMemoryByteStore):
    def mget(self, keys):
        return super().mget(keys)[:-1]


@pytest.mark.parametrize("make", [BrokenStore, ShortStore])
def test_a_broken_store_never_breaks_a_call(model, make, caplog):
    cache = cached(model, make(), query_embedding_cache=True)
    assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert cache.embed_query("q") == model.vector("q", "query")
    assert asyncio.run(cache.aembed_documents(["a"])) == [model.vector("a")]
    assert "the store failed" in caplog.text


@pytest.mark.parametrize("value", ["text", 3, [1.0, 2.0], object(), bytearray(b"[1.0]"), {}])
def test_a_value_of_another_kind_is_a_miss(model, value):
    store = LangChainInMemoryStore()
    cache = cached(model, store)
    cache.embed_documents(["a"])
    (key,) = store.yield_keys()
    store.mset([(key, value)])
    assert cache.embed_documents(["a", "b"]) == [model.vector("a"), model.vector("b")]
