"""Requests that are known: what they answer at once is what the flow answers."""

import dataclasses
import json
import time

import pytest

from askonce.core import entry
from askonce.http import HTTPCache, passing
from askonce.http.answer import Answer
from askonce.http.flows import Found
from askonce.http.known import known
from askonce.stores.memory import MemoryStore
from tests.http.askers import body
from tests.http.server import completion
from tests.stores.faults import Faulty

URL = "https://api.example.com/v1/chat/completions"


@pytest.fixture
def store():
    faulty = Faulty(MemoryStore())
    faulty.IS_AT_HAND = faulty.works_in_loops = True
    return faulty


@pytest.fixture
def cache(store):
    return HTTPCache(store)


def understood(cache, stream=False, **headers):
    request = passing.request_of("POST", URL, headers, body(stream=stream))
    return cache.understand(passing.origin_of(request), request.content)


def keep(cache, exchange, ttl=float("inf"), tags=(), created=None, text="Hi"):
    """Keep an answer as a provider gave it."""
    content = json.dumps(completion(text)).encode()
    now = time.time() if created is None else created
    answer = Answer("body", content, now, now + ttl, {"x-request-id": "r"}, dict.fromkeys(tags, "e"))
    cache.store.write({exchange.question.key: answer.pack(exchange.question.binding)})
    return answer


@pytest.mark.parametrize("stream", [False, True])
def test_it_answers_as_the_flow_does(cache, stream):
    exchange = understood(cache, stream)
    answer = keep(cache, exchange, ttl=1000)
    found = known(cache, exchange)
    for _ in range(3):
        headers, chunks = found.reply()
        told, wanted = passing.reply_of(exchange, Found(answer), now=time.time())
        assert chunks == wanted
        assert sorted(headers) == sorted((n.encode(), v.encode()) for n, v in told)


@pytest.mark.parametrize("stream", [False, True])
def test_each_time_the_store_decides(cache, stream):
    exchange = understood(cache, stream)
    found = known(cache, exchange)
    assert found.reply() is None
    keep(cache, exchange)
    assert found.reply() is not None
    cache.store.delete([exchange.question.key])
    assert found.reply() is None
    keep(cache, exchange, ttl=10, created=time.time() - 20)
    assert found.reply() is None
    keep(cache, exchange, tags=["a"])
    assert found.reply() is None
    keep(cache, exchange)
    assert found.reply() is not None


def test_what_is_damaged_or_another_questions_is_nothing(cache):
    exchange = understood(cache)
    keep(cache, exchange)
    key = exchange.question.key
    found = known(cache, exchange)
    assert found.reply() is not None
    (blob,) = cache.store.read([key])
    cache.store.write({key: blob[:-9] + b"?" + blob[-8:]})
    assert found.reply() is None
    read = entry.unpack(blob)
    cache.store.write({key: entry.pack(dataclasses.replace(read, binding=read.binding ^ 1))})
    assert found.reply() is None


def test_a_broken_store_is_left_to_the_flow(cache, store):
    exchange = understood(cache)
    keep(cache, exchange)
    found = known(cache, exchange)
    store.go_down()
    assert found.reply() is None
    store.come_back()
    assert found.reply() is not None


def test_an_age_may_be_too_old(cache):
    exchange = understood(cache, **{"cache-control": "max-age=60"})
    found = known(cache, exchange)
    keep(cache, exchange, created=time.time() - 30)
    headers, _ = found.reply()
    assert int(dict(headers)[b"age"]) in (30, 31)
    keep(cache, exchange, created=time.time() - 90)
    assert found.reply() is None


def test_who_wants_a_new_answer_is_not_known(cache):
    assert known(cache, understood(cache, **{"cache-control": "no-cache"})) is None
    assert known(cache, "anything else") is None


def test_a_store_that_is_not_at_hand_is_not_looked_into(cache, store):
    exchange = understood(cache)
    keep(cache, exchange)
    store.IS_AT_HAND = False
    assert known(cache, exchange).reply() is None
    store.IS_AT_HAND, store.works_in_loops = True, False
    assert known(cache, exchange).reply() is None


def test_a_slow_store_is_left_to_threads_for_a_while(cache, store, monkeypatch):
    from askonce.core import store as module

    exchange = understood(cache)
    keep(cache, exchange)
    found = known(cache, exchange)
    clock = iter([100.0, 100.5, 100.9, 102.0, 102.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert [found.reply() is not None for _ in range(3)] == [True, False, True]


@pytest.mark.parametrize(("length", "is_held"), [(100, True), (30_000, True), (40_000, False)])
def test_only_short_answers_are_held_in_memory(cache, length, is_held):
    exchange = understood(cache)
    keep(cache, exchange, text="x" * length)
    assert (known(cache, exchange).reply() is not None) == is_held
