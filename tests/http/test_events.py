"""Hits and misses tell what the answer cost, or would have."""

import pytest

from tests.http.askers import body
from tests.http.server import Script, completion, plain

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 400},
}


def answering(**fields):
    fields = {"model": "gpt-4o-mini-2024-07-18", "usage": USAGE, **fields}
    return Script([lambda asked: plain(completion("Hello", **fields))])


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_saves_what_its_miss_has_spent(kind, maker, provider, url, stream):
    told = []
    asker = maker(kind, "memory://", observe=told.append)
    provider.answer = answering()
    asker.ask(url, body())
    asker.ask(url, body(stream=stream))
    assert [event.kind for event in told] == ["miss", "stored", "hit"]
    miss, _, hit = told
    for event in (miss, hit):
        assert event.model == "gpt-4o-mini-2024-07-18"
        tokens = (event.input_tokens, event.output_tokens, event.cached_tokens)
        assert tokens == (1000, 200, 400)
        assert event.price == pytest.approx(600 * 0.15e-6 + 400 * 0.075e-6 + 200 * 0.6e-6)
    assert miss.seconds > 0
    assert hit.seconds == pytest.approx(miss.seconds, abs=1e-4)


def test_an_answer_that_is_refused_has_its_cost(kind, maker, provider, url):
    told = []
    asker = maker(kind, "memory://", observe=told.append)
    provider.answer = answering(reason="length")
    asker.ask(url, body())
    assert [event.kind for event in told] == ["miss", "refused"]
    assert (told[0].input_tokens, told[0].output_tokens) == (1000, 200)


def test_a_price_that_nobody_knows_is_none(kind, maker, provider, url):
    told = []
    asker = maker(kind, "memory://", observe=told.append)
    provider.answer = answering(model="my-own-model")
    asker.ask(url, body())
    assert told[0].input_tokens == 1000
    assert told[0].price is None
