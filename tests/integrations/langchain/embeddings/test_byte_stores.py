"""The stores that the constructor takes, and the one that it shows."""

import asyncio
import subprocess
import sys

import pytest
from langchain_core.stores import InMemoryStore as LangChainInMemoryStore

from askonce.errors import AnswerError
from askonce.integrations.langchain import CacheBackedEmbeddings
from askonce.integrations.langchain.embedding_store import EmbeddingStore
from tests.integrations.langchain.embedding_models import CountingModel, cached


@pytest.mark.parametrize("shared", [False, True])
def test_a_store_of_lists_keeps_texts_and_lists(model, shared):
    documents = LangChainInMemoryStore()
    queries = documents if shared else LangChainInMemoryStore()
    cache = CacheBackedEmbeddings(model, documents, query_embedding_store=queries)
    for _ in range(2):
        assert cache.embed_documents(["a", "b"]) == [model.vector("a"), model.vector("b")]
        assert asyncio.run(cache.aembed_documents(["a"])) == [model.vector("a")]
        assert cache.embed_query("a") == model.vector("a", "query")
    assert (model.texts, model.queries) == (["a", "b"], ["a"])
    assert documents.mget(["a", "b"]) == [model.vector("a"), model.vector("b")]
    assert cache.document_embedding_store is documents
    assert cache.query_embedding_store is queries


def test_what_is_in_a_store_of_lists_is_used(model):
    documents = LangChainInMemoryStore()
    documents.mset([("a", [1.0, 2.0]), ("b", "nonsense")])
    model.dims_given = 2
    cache = CacheBackedEmbeddings(model, documents)
    assert cache.embed_documents(["a", "b"]) == [[1.0, 2.0], model.vector("b")]
    assert model.asked == [["b"]]


def test_the_store_it_shows_goes_from_text_to_vector(store, model):
    cache = cached(model, store)
    cache.embed_documents(["a"])
    shown = cache.document_embedding_store
    assert isinstance(shown, EmbeddingStore)
    assert shown.mget(["a", "b", "a"]) == [model.vector("a"), None, model.vector("a")]
    assert shown.mget([]) == []
    shown.mset([("b", [0.5] * 8)])
    assert cache.embed_documents(["b"]) == [[0.5] * 8]
    shown.mdelete(["a", "missing"])
    assert shown.mget(["a", "b"]) == [None, [0.5] * 8]
    assert len(list(shown.yield_keys(prefix="ns"))) == 1
    assert model.asked == [["a"]]


async def test_the_store_it_shows_has_both_colours(store, model):
    shown = cached(model, store).document_embedding_store
    await shown.amset([("a", [0.5] * 8), ("b", [0.25] * 8)])
    await shown.amdelete(["b"])
    assert await shown.amget(["a", "b"]) == [[0.5] * 8, None]
    assert len([key async for key in shown.ayield_keys()]) == 1
    with pytest.raises(AnswerError):
        await shown.amset([("c", [float("nan")] * 8)])


def test_the_store_it_shows_leaves_other_models_alone(store, warned):
    one, two = CountingModel("one"), CountingModel("two")
    cached(one, store).embed_documents(["a"])
    shown = cached(two, store).document_embedding_store
    assert shown.mget(["a"]) == [None]
    shown.mset([("a", [0.5] * 8)])
    shown.mdelete(["a"])
    assert shown.mget(["a"]) == [None]
    assert cached(one, store).embed_documents(["a"]) == [one.vector("a")]
    assert len(one.asked) == 1


def test_the_store_it_shows_serves_another_cache(model):
    first = cached(model, "memory://", query_embedding_cache=True)
    first.embed_documents(["a"])
    first.embed_query("a")
    again = CacheBackedEmbeddings(
        model,
        first.document_embedding_store,
        query_embedding_store=first.document_embedding_store,
    )
    assert again.embed_documents(["a"]) == [model.vector("a")]
    assert again.embed_query("a") == model.vector("a", "query")
    assert (model.texts, model.queries) == (["a"], ["a"])
    other = CountingModel("other")
    cache = CacheBackedEmbeddings(other, first.document_embedding_store)
    assert cache.embed_documents(["a"]) == [other.vector("a")]


def test_without_langchain_the_import_says_what_to_install():
    program = (
        "import sys; sys.modules['langchain_core'] = None\n"
        "from askonce import MissingExtraError\n"
        "try:\n"
        "    import askonce.integrations.langchain\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'askonce[langchain]'" in done.stdout
