"""Fixtures: a provider that a test steers, and a gateway before it that is on a Redis."""

import pytest

from tests.gateway.failures.asking import HTTP
from tests.gateway.failures.steered import Steered
from tests.gateway.running import configured, gateway
from tests.http import server as servers
from tests.servers.redis import PROGRAMS, RedisServer


@pytest.fixture(scope="session", autouse=True)
def http():
    yield
    HTTP.close()


@pytest.fixture(scope="module")
def steered():
    return Steered()


@pytest.fixture(scope="module")
def provider(steered):
    with servers.running(steered) as server:
        yield server


@pytest.fixture(scope="module")
def redis():
    server = RedisServer(PROGRAMS["redis8"])
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, provider, redis):
    """Serve on a Redis."""
    folder = tmp_path_factory.mktemp("shared")
    config = configured(folder, provider.address, store=redis.url("/0"))
    with gateway(config) as running:
        yield running
        assert running.stop() in (0, -15)
