"""How old an answer may be, and when it stands in for none."""

import asyncio

import pytest

from tests.http import server as servers
from tests.http.askers import body
from tests.http.control.words import text_of, texts
from tests.http.server import Hang, plain


def test_the_status_of_a_miss_and_a_hit(asker, provider, url, clock):
    first = asker.ask(url, body())
    clock[0] += 7.9
    second = asker.ask(url, body())
    assert first.header("cache-status") == "askonce; fwd=miss"
    assert first.header("age") is None
    assert second.header("cache-status") == "askonce; hit"
    assert second.header("age") == "7"


def test_ttl_in_a_header(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "60"})
    clock[0] += 59
    hit = asker.ask(url, body())
    assert hit.header("cache-status") == "askonce; hit; ttl=1"
    clock[0] += 1
    assert asker.ask(url, body()).header("cache-status") == "askonce; fwd=stale"
    assert provider.count == 2


def test_no_cache_asks_anew_and_keeps(asker, provider, url):
    provider.answer = texts("one", "two")
    asker.ask(url, body())
    fresh = asker.ask(url, body(), {"Cache-Control": "no-cache"})
    assert (text_of(fresh), fresh.header("cache-status")) == ("two", "askonce; fwd=request")
    assert text_of(asker.ask(url, body())) == "two"
    assert provider.count == 2


def test_no_store_keeps_nothing_but_gives_what_is_there(asker, provider, url):
    for _ in range(2):
        asker.ask(url, body(), {"Cache-Control": "no-store"})
    assert provider.count == 2
    assert list(asker.cache.store.keys()) == []
    asker.ask(url, body())
    assert asker.ask(url, body(), {"Cache-Control": "no-store"}).hit


@pytest.mark.parametrize("stream", [False, True])
def test_only_if_cached(asker, provider, url, stream):
    only = {"Cache-Control": "only-if-cached"}
    missing = asker.ask(url, body(stream=stream), only)
    assert missing.status == 504
    assert missing.header("x-should-retry") == "false"
    assert "only-if-cached" in missing.json()["error"]["message"]
    assert asker.ask(url, body(store=True), only).status == 504
    assert asker.ask(url, b"not JSON", only).status == 504
    assert provider.count == 0
    asker.ask(url, body())
    assert asker.ask(url, body(stream=stream), only).hit


def test_max_age(asker, provider, url, clock):
    provider.answer = texts("one", "two", "three")
    asker.ask(url, body())
    clock[0] += 10
    assert asker.ask(url, body(), {"Cache-Control": "max-age=10"}).hit
    clock[0] += 0.5
    older = asker.ask(url, body(), {"Cache-Control": "max-age=10"})
    assert (text_of(older), older.header("cache-status")) == ("two", "askonce; fwd=stale")
    assert text_of(asker.ask(url, body())) == "two"
    clock[0] += 1
    assert text_of(asker.ask(url, body(), {"Cache-Control": 'Max-Age="0"'})) == "three"


@pytest.mark.parametrize(
    "failure",
    [
        lambda asked: plain({"error": {}}, 500),
        lambda asked: plain({"error": {}}, 429),
        lambda asked: [servers.Close],
    ],
)
def test_stale_if_error(asker, provider, url, clock, failure):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 100
    provider.answer = failure
    wish = {"Cache-Control": "stale-if-error=100"}
    for stream in (False, True):
        stale = asker.ask(url, body(stream=stream), wish)
        assert (stale.status, stale.header("cache-status")) == (200, "askonce; hit; ttl=-90")
        assert stale.header("age") == "100"
    assert provider.count >= 3
    try:
        assert asker.ask(url, body()).status >= 400
    except asker.library.TransportError:
        pass
    clock[0] += 10
    try:
        assert asker.ask(url, body(), wish).status >= 400
    except asker.library.TransportError:
        pass


def test_a_bad_request_is_no_reason_for_a_stale_answer(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 100
    provider.answer = lambda asked: plain({"error": {}}, 400)
    assert asker.ask(url, body(), {"Cache-Control": "stale-if-error=1000"}).status == 400


def test_cancelling_is_no_error_for_which_a_stale_answer_stands_in(maker, provider, url, clock):
    asker = maker("httpx2-async", "memory://")
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 100
    provider.answer = lambda asked: [Hang]

    async def run():
        wish = {"Cache-Control": "stale-if-error=1000"}
        asking = asyncio.ensure_future(asker.client.post(url, json=body(), headers=wish))
        while provider.count < 2:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asker.run(run())
