"""Queries, which are no documents."""

import asyncio

import pytest

from askonce.integrations.langchain import LocalFileStore, SQLiteByteStore
from tests.integrations.langchain.embedding_models import cached


def test_a_query_is_cached_if_asked_for(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    assert cache.embed_query("q") == cache.embed_query("q") == model.vector("q", "query")
    assert asyncio.run(cache.aembed_query("q")) == model.vector("q", "query")
    assert model.queries == ["q"]


def test_a_query_is_not_cached_by_default(model):
    cache = cached(model, "memory://")
    cache.embed_query("q")
    assert cache.embed_query("q") == model.vector("q", "query")
    assert model.queries == ["q", "q"]
    assert cache.query_embedding_store is None
    assert not list(cache.document_embedding_store.yield_keys())


def test_a_query_never_gets_a_documents_vector(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    cache.embed_documents(["same"])
    assert cache.embed_query("same") == model.vector("same", "query")
    assert cache.embed_documents(["same"]) == [model.vector("same")]
    assert (model.texts, model.queries) == (["same"], ["same"])


@pytest.mark.parametrize("other", [SQLiteByteStore, lambda path: f"sqlite:///{path}"])
def test_queries_may_have_a_store_of_their_own(tmp_path, model, other):
    cache = cached(model, "memory://", query_embedding_cache=other(tmp_path / "queries.db"))
    for _ in range(2):
        assert cache.embed_documents(["same"]) == [model.vector("same")]
        assert cache.embed_query("same") == model.vector("same", "query")
    assert (model.texts, model.queries) == (["same"], ["same"])
    assert len(list(cache.document_embedding_store.yield_keys())) == 1
    assert len(list(cache.query_embedding_store.yield_keys())) == 1


def test_a_query_and_a_document_opened_apart_in_one_place_stay_apart(tmp_path, model):
    cache = cached(
        model,
        LocalFileStore(tmp_path),
        query_embedding_cache=LocalFileStore(tmp_path),
    )
    for _ in range(2):
        assert cache.embed_documents(["same"]) == [model.vector("same")]
        assert cache.embed_query("same") == model.vector("same", "query")
    assert (model.texts, model.queries) == (["same"], ["same"])
