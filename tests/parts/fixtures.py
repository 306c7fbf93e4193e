"""Fixtures of real models; a package that is missing is an error, not a skip."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from examples.demo import language_model
from examples.demo.embedders import WordLlama

from tests.parts.counter import Front, counted


@dataclass
class LanguageModel:
    """Hold a running language model: OpenAI's interface is at `base_url`."""

    base_url: str
    model: str
    _front: Front

    def requests(self, path: str = "") -> int:
        """Count the requests received so far whose path ends in `path`."""
        return sum(received.endswith(path) for _, received in self._front.received)


@pytest.fixture(scope="session")
def llm_server() -> Iterator[LanguageModel]:
    """Serve SmolLM2 for the whole session."""
    with language_model.running(embeddings=True) as address, counted(address) as front:
        yield LanguageModel(f"{front.address}/v1", language_model.NAME, front)


@pytest.fixture(scope="session")
def embedder() -> WordLlama:
    """Load real embeddings: from a list of strings to float32 of shape (len, 256)."""
    return WordLlama()
