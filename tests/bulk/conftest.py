import ssl

import httpcore2
import pytest

from tests.bulk import models
from tests.bulk.jobs import Run
from tests.providers.fault_server import running


@pytest.fixture(autouse=True)
def fresh_models():
    models.asked.clear()
    models.gate.clear()
    while models.begun.acquire(blocking=False):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server with OpenAI's interface that misbehaves on command."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(httpcore2, "default_ssl_context", lambda **_: context)
    with running() as server:
        yield server


@pytest.fixture
def run(tmp_path):
    return lambda embedder, **fields: Run(tmp_path, embedder, **fields)
