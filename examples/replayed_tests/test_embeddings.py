"""Embeddings: each input of a batch has a cassette of its own."""

import numpy as np
import pytest

import askonce

MODEL = "smollm2-135m-instruct"


def test_batch(client):
    one = client.embeddings.create(model=MODEL, input=["cat", "dog", "cat"])
    assert one.data[0].embedding == one.data[2].embedding
    assert one.data[0].embedding != one.data[1].embedding


def test_another_batch_of_the_same_inputs(client):
    found = client.embeddings.create(model=MODEL, input=["dog", "cat"], encoding_format="float")
    assert [item.index for item in found.data] == [0, 1]


async def test_async(async_client):
    found = await async_client.embeddings.create(model=MODEL, input="dog")
    assert len(found.data[0].embedding) == 576


def test_a_function_of_ones_own(client, askonce_store):
    def embed(texts):
        found = client.embeddings.create(model=MODEL, input=texts)
        return [item.embedding for item in found.data]

    cache = askonce.EmbeddingCache(embed, model=MODEL, store=askonce_store)
    vectors = cache.embed(["cat", "dog"])
    assert vectors.shape == (2, 576)
    assert np.isfinite(vectors).all()


@pytest.mark.askonce(library="httpx")
def test_with_httpx(client):
    found = client.embeddings.create(model=MODEL, input=["cat"])
    assert len(found.data) == 1
