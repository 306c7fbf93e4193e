"""Answers of a model that are no vectors for its texts."""

import asyncio

import pytest

from askonce.errors import AnswerError
from tests.integrations.langchain.embedding_models import AnsweringModel, cached

BAD_ANSWERS = {
    "too few": lambda texts: [[1.0]] * (len(texts) - 1),
    "too many": lambda texts: [[1.0]] * (len(texts) + 1),
    "nothing": lambda texts: None,
    "empty vectors": lambda texts: [[] for _ in texts],
    "different lengths": lambda texts: [[1.0] * (n + 1) for n in range(len(texts))],
    "NaN": lambda texts: [[1.0, float("nan")] for _ in texts],
    "infinity": lambda texts: [[1.0, float("-inf")] for _ in texts],
    "None inside": lambda texts: [[1.0, None] for _ in texts],
    "text": lambda texts: [["1.0", "2.0"] for _ in texts],
    "flat": lambda texts: [1.0 for _ in texts],
}


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_a_wrong_number_of_vectors_or_no_numbers_is_an_error(store, fault):
    model = AnsweringModel(BAD_ANSWERS[fault])
    cache = cached(model, store)
    with pytest.raises(AnswerError):
        cache.embed_documents(["a", "b", "c"])
    with pytest.raises(AnswerError):
        asyncio.run(cache.aembed_documents(["a", "b", "c"]))
    assert not list(cache.document_embedding_store.yield_keys())
    model.answer = lambda texts: [[1.0]] * len(texts)
    assert cache.embed_documents(["a", "b", "c"]) == [[1.0]] * 3


@pytest.mark.parametrize("queries", [False, True])
@pytest.mark.parametrize("answer", [None, [], [[1.0]], [float("nan")], ["a"], 1.0])
def test_a_querys_answer_is_checked_too(answer, queries):
    model = AnsweringModel(lambda texts: [answer])
    cache = cached(model, "memory://", query_embedding_cache=queries)
    for call in (cache.embed_query, lambda text: asyncio.run(cache.aembed_query(text))):
        with pytest.raises(AnswerError):
            call("q")
    assert not list(cache.document_embedding_store.yield_keys())


def test_the_models_attributes_are_reachable(model):
    cache = cached(model, "memory://")
    assert (cache.model, cache.dims_given) == ("counting", 8)
    assert cache.underlying_embeddings is model
    assert cache.vector("a") == model.vector("a")
    with pytest.raises(AttributeError, match="no_such_attribute"):
        cache.no_such_attribute  # noqa: B018
