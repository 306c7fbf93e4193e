"""A shared store in trouble, behind a near tier: calls go on, and what was paid for arrives."""

import contextlib
import time

import numpy as np
import pytest

import askonce
from askonce.errors import StoreError
from tests.servers.postgres import PostgresServer, binaries
from tests.servers.proxy import Proxy
from tests.servers.redis import PROGRAMS, RedisServer

LONG = "lookup_timeout=30&timeout=60"
BEFORE = [str(number) for number in range(300)]
DURING = [str(number) for number in range(300, 600)]


@pytest.fixture(params=["redis", "postgres"])
def server(request):
    server = (
        RedisServer(PROGRAMS["redis8"])
        if request.param == "redis"
        else PostgresServer(binaries()["18"])
    )
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as proxy:
        yield proxy


@contextlib.contextmanager
def paused(server, proxy):
    with server.paused():
        yield


@contextlib.contextmanager
def restarted(server, proxy):
    """Be gone for a while; a Redis comes back empty."""
    server.kill() if isinstance(server, RedisServer) else server.stop()
    yield
    server.start()


@contextlib.contextmanager
def cut_off(server, proxy):
    proxy.cut_after = 0
    yield
    proxy.cut_after = None


@contextlib.contextmanager
def cut_short(server, proxy):
    """Break each connection in the middle of an answer."""
    proxy.cut_after = 1500
    yield
    proxy.cut_after = None


class Model:
    """Embed a number as itself; remember what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked += texts
        return np.array([[float(text), 1.0] for text in texts], np.float32)


def right(vectors, texts):
    return (vectors[:, 0] == np.array(texts, np.float32)).all()


def flushed(store) -> None:
    """Wait until what is queued has been sent."""
    deadline = time.monotonic() + 60
    while True:
        try:
            store.flush()
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("fault", [paused, restarted, cut_off, cut_short])
def test_calls_go_on_and_nothing_is_lost(server, proxy, fault, tmp_path):
    model = Model()
    url = server.url()
    direct = f"{url}{'&' if '?' in url else '?'}{LONG}"
    far = url.replace(f":{server.port}", f":{proxy.port}")
    with askonce.tiered(f"sqlite:///{tmp_path}/near.db", far) as store:
        cache = askonce.EmbeddingCache(model, model="m", store=store, batch_size=100)
        assert right(cache.embed(BEFORE), BEFORE)
        flushed(store)
        with fault(server, proxy):
            assert right(cache.embed(BEFORE[::-1]), BEFORE[::-1])
            assert right(cache.embed(DURING + BEFORE), DURING + BEFORE)
            assert right(cache.embed(DURING), DURING)
        assert model.asked == BEFORE + DURING
        flushed(store)
        assert right(cache.embed(DURING), DURING)
    assert model.asked == BEFORE + DURING
    with askonce.open_store(direct) as shared:
        other = Model()
        cache = askonce.EmbeddingCache(other, model="m", store=shared)
        assert right(cache.embed(DURING), DURING)
    assert not other.asked


@pytest.mark.parametrize("fault", [paused, restarted, cut_off, cut_short])
def test_without_a_near_tier_a_call_costs_no_more_than_a_miss(server, proxy, fault):
    model, told = Model(), []
    far = server.url().replace(f":{server.port}", f":{proxy.port}")
    with askonce.open_store(far) as store:
        cache = askonce.EmbeddingCache(model, model="m", store=store, observe=told.append)
        assert right(cache.embed(BEFORE), BEFORE)
        with fault(server, proxy):
            for _ in range(3):
                assert right(cache.embed(BEFORE + DURING), BEFORE + DURING)
        assert "store_failed" in {event.kind for event in told}
        deadline = time.monotonic() + 60
        while store.trouble is not None:
            assert time.monotonic() < deadline
            assert right(cache.embed(DURING), DURING)
            time.sleep(0.02)
        # Right after it is back, a look-up may still take longer than it is given.
        while True:
            model.asked.clear()
            cache.embed(DURING)
            cache.embed(DURING)
            if len(model.asked) <= len(DURING):
                break
            assert time.monotonic() < deadline
    assert "store_back" in {event.kind for event in told}
