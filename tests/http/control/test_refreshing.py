"""Stale answers that are given at once and asked anew behind it."""

import asyncio
import threading

from tests.http import askers
from tests.http import server as servers
from tests.http.askers import body
from tests.http.control.words import text_of, texts
from tests.http.server import Hang, Script, completion, plain


def until(asker, condition):
    """Wait for what happens in the background."""

    def tried():
        if asker.is_async:
            asker.run(asyncio.sleep(0.001))
        return condition()

    askers.until(tried)


def test_stale_while_revalidate(asker, provider, url, clock):
    provider.answer = texts("one", "two")
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    wish = {"Cache-Control": "stale-while-revalidate=100"}
    stale = asker.ask(url, body(), wish)
    assert (text_of(stale), stale.header("cache-status")) == ("one", "askonce; hit; ttl=-10")
    until(asker, lambda: asker.ask(url, body(), wish).header("age") == "0")
    assert text_of(asker.ask(url, body())) == "two"
    assert provider.count == 2


def test_one_refreshes_for_all(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    opened = threading.Event()

    def held(asked):
        assert opened.wait(30)
        return plain(completion("two"))

    provider.answer = held
    wish = {"Cache-Control": "stale-while-revalidate=100"}
    for _ in range(5):
        assert text_of(asker.ask(url, body(), wish)) == "Hello"
    until(asker, lambda: provider.count == 2)
    opened.set()
    until(asker, lambda: text_of(asker.ask(url, body(), wish)) == "two")
    assert provider.count == 2


def test_a_refresh_that_fails_leaves_the_stale_answer(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    # A connection that was open is tried twice.
    lost = [lambda asked: [servers.Close]] * 2
    provider.answer = Script(lost, rule=lambda asked: plain({}, 500))
    wish = {"Cache-Control": "stale-while-revalidate=100"}
    for count in (3, 4):
        assert asker.ask(url, body(), wish).status == 200
        until(asker, lambda: provider.count == count and not asker.cache.store.flights._flights)


def test_nothing_is_refreshed_that_may_not_be_asked_for_or_kept(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    for wish in ("only-if-cached", "no-store"):
        wishes = {"Cache-Control": f"{wish}, stale-while-revalidate=100"}
        assert asker.ask(url, body(), wishes).status == 200
    assert not asker.cache.store.flights._flights
    assert provider.count == 1


def test_closing_cancels_what_is_refreshed(maker, provider, url, clock):
    asker = maker("httpx2-async", "memory://")
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    provider.answer = lambda asked: [Hang]
    asker.ask(url, body(), {"Cache-Control": "stale-while-revalidate=100"})
    until(asker, lambda: provider.count == 2)
    asker.run(asker.client.aclose())
    assert not asker.cache.store.flights._flights
