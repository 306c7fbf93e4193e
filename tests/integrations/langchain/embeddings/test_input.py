"""Input that cannot be used."""

import asyncio

import pytest

from askonce.errors import InputError, InputTypeError
from askonce.integrations.langchain import CacheBackedEmbeddings
from tests.integrations.langchain.embedding_models import cached


@pytest.mark.parametrize("texts", [["a", 3], [None], [b"bytes"], [["a"]], "abc", b"abc", 3, None])
def test_what_is_not_a_list_of_strings_is_refused(model, texts):
    cache = cached(model, "memory://")
    with pytest.raises(InputTypeError):
        cache.embed_documents(texts)
    with pytest.raises(InputTypeError):
        asyncio.run(cache.aembed_documents(texts))
    assert not model.asked


@pytest.mark.parametrize("queries", [False, True])
@pytest.mark.parametrize("text", [None, 3, b"bytes", ["a"]])
def test_a_query_that_is_not_a_string_is_refused(model, queries, text):
    cache = cached(model, "memory://", query_embedding_cache=queries)
    for call in (cache.embed_query, lambda text: asyncio.run(cache.aembed_query(text))):
        with pytest.raises(InputTypeError, match="give one string"):
            call(text)
    assert not model.queries


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key_encoder": "md5"}, "choose one of blake2b, sha1, sha256, sha512"),
        ({"key_encoder": 3}, "pass a function"),
        ({"key_encoder": str.upper, "namespace": "ns"}, "leave it out"),
        ({"namespace": None}, "give a string"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": -1}, "at least 1"),
        ({"query_embedding_cache": 3}, "is not a store"),
        ({"query_embedding_cache": None}, "is not a store"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(model, options, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        cached(model, "memory://", **options)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("store", [3, None, {}, "cache.db", "nowhere://"])
def test_a_store_that_is_none_is_refused(model, store):
    with pytest.raises(InputError):
        cached(model, store)
    with pytest.raises(InputError):
        CacheBackedEmbeddings(model, store)


@pytest.mark.parametrize("key", [None, 3, "", b"key"])
def test_a_key_encoder_must_give_strings(model, key):
    cache = cached(model, "memory://", namespace="", key_encoder=lambda text: key)
    with pytest.raises(InputTypeError, match="key_encoder returned"):
        cache.embed_documents(["a"])


def test_a_key_encoder_that_gives_one_key_for_all_is_harmless(store, model):
    cache = cached(model, store, namespace="", key_encoder=lambda text: "same")
    for texts in (["a"], ["a", "b"], ["b", "c"], ["c", "a"]):
        for _ in range(2):
            assert cache.embed_documents(texts) == [model.vector(text) for text in texts]
