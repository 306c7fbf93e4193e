import asyncio
import ssl

import httpcore2
import pytest
from tests.providers.fault_server import FaultServer, running

from askonce.providers import OpenAIEmbedder


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch):
    """Spare each client the loading of certificates, which takes longer than its test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(httpcore2, "default_ssl_context", lambda **_: context)


@pytest.fixture
def server():
    with running() as server:
        yield server


@pytest.fixture
def make(server: FaultServer):
    """Make embedders that ask the fault server and lose no time."""
    made: list[OpenAIEmbedder] = []

    def make(model: str = "m", **settings) -> OpenAIEmbedder:
        settings = {"base_url": server.base_url, "backoff": 0.001, "attempts": 4} | settings
        embedder = OpenAIEmbedder(model, **settings)
        made.append(embedder)
        return embedder

    yield make
    for embedder in made:
        embedder.close()


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@pytest.fixture
def ask(colour):
    """Call an embedder in either colour; the connections of an event loop end with it."""

    async def acall(embedder, texts, each):
        try:
            return await (embedder.aembed_each(texts) if each else embedder.aembed(texts))
        finally:
            client = embedder._async_clients.pop(asyncio.get_running_loop(), None)
            if client is not None:
                await client.close()

    def call(embedder, texts, *, each=False):
        if colour == "sync":
            return embedder.embed_each(texts) if each else embedder(texts)
        return asyncio.run(acall(embedder, texts, each))

    return call
