"""Policies in Python: blocks that nest, defaults, tasks and threads."""

import asyncio
import contextvars
import threading

import pytest

import askonce
from tests.http.askers import body


def test_blocks_of_policy_nest_and_headers_win(asker, provider, url):
    with askonce.policy(namespace="a", sample=1):
        asker.ask(url, body())
        with askonce.policy(sample=2):
            asker.ask(url, body())
            assert asker.ask(url, body(), {"Askonce-Sample": "1"}).hit
        assert asker.ask(url, body()).hit
        assert provider.count == 2
    assert not asker.ask(url, body()).hit
    assert asker.ask(url, body(), {"Askonce-Namespace": "a", "Askonce-Sample": "2"}).hit


def test_the_defaults_of_a_cache(kind, maker, provider, url, clock):
    asker = maker(kind, "memory://", namespace="n", ttl=5)
    asker.ask(url, body())
    assert all(key.startswith("n/") for key in asker.cache.store.keys())
    clock[0] += 5
    with askonce.policy(ttl=None):
        asker.ask(url, body())
    clock[0] += 1e9
    assert asker.ask(url, body()).hit


def test_tasks_take_the_block_they_were_started_in_with_them(maker, provider, url):
    asker = maker("httpx2-async", "memory://")

    async def ask():
        await asyncio.sleep(0)
        return (await asker.client.post(url, json=body())).headers["cache-status"]

    async def run():
        with askonce.policy(sample=1):
            started = asyncio.ensure_future(ask())
        with askonce.policy(only_if_cached=True):
            others = [asyncio.ensure_future(ask()) for _ in range(2)]
        return await asyncio.gather(started, *others, ask())

    status = asker.run(run())
    assert status[0] == status[3] == "askonce; fwd=miss"
    assert status[1] == status[2] == "askonce; detail=only-if-cached"
    assert provider.count == 2


def test_threads_begin_without_a_block_unless_they_are_given_it(maker, provider, url):
    asker = maker("httpx2", "memory://")
    found = {}

    def ask(name):
        found[name] = asker.ask(url, body()).status

    with askonce.policy(only_if_cached=True):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=context.run, args=(ask, "given")),
            threading.Thread(target=ask, args=("plain",)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert found == {"given": 504, "plain": 200}
    assert provider.count == 1


@pytest.mark.parametrize(
    "wishes",
    [
        {"unknown": 1},
        {"ttl": 0},
        {"ttl": "5"},
        {"tags": "docs"},
        {"tags": [1]},
        {"tags": None},
        {"sample": -1},
        {"sample": 1.5},
        {"sample": True},
        {"max_age": -1},
        {"max_age": float("nan")},
        {"stale_if_error": "x"},
        {"keep": {"error"}},
        {"keep": "length"},
        {"namespace": None},
    ],
)
def test_policies_that_cannot_be_used_say_so(wishes):
    with pytest.raises(askonce.InputError), askonce.policy(**wishes):
        pass
    with pytest.raises(askonce.InputError):
        askonce.HTTPCache("memory://", **wishes)
