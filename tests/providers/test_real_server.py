"""The embedder against llama.cpp."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from examples.demo import language_model

from askonce.providers import InputRefusedError, InputTooLongError, OpenAIEmbedder, cache

TEXTS = ["A cat sat on the mat.", "The stock market fell.", "A kitten sat on a rug."]


@pytest.fixture(scope="module")
def address():
    process = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("embedding_server.py")),
            str(language_model.weights()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        address = process.stdout.readline().strip()
        assert address, "the server did not start"
        yield f"{address}/v1"
        process.stdin.close()
        process.wait(20)


@pytest.fixture
def embedder(address):
    with OpenAIEmbedder("smollm2", base_url=address) as embedder:
        yield embedder


def test_base64_and_floats_are_the_same_vectors(embedder):
    packed = embedder(TEXTS)
    assert packed.shape == (3, 576)
    assert packed.dtype == np.float32
    assert packed[0] @ packed[2] > packed[0] @ packed[1]
    embedder._dialect.format = "float"
    np.testing.assert_allclose(embedder(TEXTS), packed, atol=1e-6)
    embedder._dialect.format = "unsaid"
    np.testing.assert_allclose(embedder(TEXTS), packed, atol=1e-6)


def test_it_is_not_asked_twice(embedder):
    embeddings = cache(embedder, "memory://")
    first = embeddings.embed(TEXTS)
    used = embedder.tokens_used
    assert used > 0
    np.testing.assert_array_equal(embeddings.embed(TEXTS), first)
    assert embedder.tokens_used == used


async def test_async(address):
    async with OpenAIEmbedder("smollm2", base_url=address, max_inputs=1) as embedder:
        rows = await embedder.aembed(TEXTS)
    assert rows.shape == (3, 576)


def test_texts_it_refuses_are_named(embedder):
    outcomes = embedder.embed_each([TEXTS[0], "word " * 600, "", TEXTS[1]])
    assert isinstance(outcomes[1], InputTooLongError)
    assert outcomes[1].index == 1
    assert "too large" in outcomes[1].reason
    assert type(outcomes[2]) is InputRefusedError
    assert outcomes[2].index == 2
    assert outcomes[0].shape == outcomes[3].shape == (576,)
    with pytest.raises(InputRefusedError):
        embedder([TEXTS[0], "word " * 600])
