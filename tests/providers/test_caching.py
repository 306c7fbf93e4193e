"""A store in front of an embedder."""

import asyncio

import numpy as np
import pytest
from tests.providers.fault_server import vectors_of

from askonce import EmbeddingCache, open_store
from askonce.providers import cache

TEXTS = ["a", "b", "c"]


def test_asks_once(make, server):
    with open_store("memory://") as store:
        embeddings = cache(make(), store, "space", batch_size=2)
        assert isinstance(embeddings, EmbeddingCache)
        assert embeddings.namespace == "space"
        for _ in range(2):
            np.testing.assert_array_equal(embeddings.embed(TEXTS), vectors_of(TEXTS))
        assert server.inputs == [["a", "b"], ["c"]]


def test_one_call_keeps_all_requests_busy(make, server):
    embedder = make(max_inputs=2, concurrency=3)
    assert cache(embedder, "memory://").batch_size == embedder.batch_size == 6


def test_both_colours_share(make, server):
    async def ask_async(embeddings, embedder):
        rows = await embeddings.aembed(TEXTS)
        await embedder.aclose()
        return rows

    embedder = make()
    embeddings = cache(embedder, "memory://")
    np.testing.assert_array_equal(asyncio.run(ask_async(embeddings, embedder)), vectors_of(TEXTS))
    np.testing.assert_array_equal(embeddings.embed(TEXTS), vectors_of(TEXTS))
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "another"},
        {"model": "another"},
        {"dimensions": 16},
        {"extra_body": {"input_type": "query"}},
    ],
    ids=str,
)
def test_what_decides_the_vectors_divides_the_store(make, server, other):
    with open_store("memory://") as store:
        cache(make(), store).embed(TEXTS)
        cache(make(**other), store).embed(TEXTS)
    assert len(server.bodies) == 2


def test_what_does_not_decide_them_does_not(make, server):
    with open_store("memory://") as store:
        cache(make(), store).embed(TEXTS)
        cache(make(api_key="other", timeout=5, max_inputs=1), store).embed(TEXTS)
    assert len(server.bodies) == 1


def test_no_wrong_vector_is_stored(make, server):
    from tests.providers.fault_server import Change

    from askonce import AnswerError

    with open_store("memory://") as store:
        embeddings = cache(make(), store)
        server.script = [Change(lambda answer: answer["data"][0].update(index=1))]
        with pytest.raises(AnswerError):
            embeddings.embed(TEXTS)
        assert list(store.keys()) == []
        np.testing.assert_array_equal(embeddings.embed(TEXTS), vectors_of(TEXTS))
