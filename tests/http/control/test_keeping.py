"""What is kept of what was answered."""

import pytest

import askonce
from tests.http.askers import body
from tests.http.control.words import text_of, texts
from tests.http.server import chunked, completion, events, plain


def test_random_answers_are_kept_unless_refused(kind, maker, provider, url):
    asker = maker(kind, "memory://")
    certain = [body(temperature=0), body(seed=1, temperature=1)]
    chancy = [body(temperature=0.1), {**body(), "temperature": None}]
    for request in [*certain, *chancy] * 2:
        asker.ask(url, request)
    assert provider.count == 4
    strict = maker(kind, "memory://", random=False)
    for request in [*certain, *chancy] * 2:
        reply = strict.ask(url, request)
    assert provider.count == 4 + 2 + 4
    assert "random" in reply.header("cache-status")


@pytest.mark.parametrize("ending", ["length", "content_filter"])
def test_shortfalls_are_kept_if_asked_for(kind, maker, provider, url, ending):
    provider.answer = lambda asked: (
        chunked(events("Hel", reason=ending))
        if asked.json().get("stream")
        else plain(completion(reason=ending))
    )
    for stream in (False, True):
        asker = maker(kind, "memory://")
        asker.ask(url, body(stream=stream))
        with askonce.policy(keep={ending}):
            asker.ask(url, body(stream=stream))
        before = provider.count
        assert asker.ask(url, body(stream=not stream)).hit
        of_cache = maker(kind, "memory://", keep=[ending])
        of_cache.ask(url, body(stream=stream))
        assert of_cache.ask(url, body(stream=stream)).hit
        assert provider.count == before + 1


def test_keep_decides_last(kind, maker, provider, url):
    seen = []

    def keep(reply):
        seen.append(reply)
        return "good" in reply["choices"][0]["message"]["content"]

    provider.answer = texts("bad", "good")
    asker = maker(kind, "memory://", keep=keep)
    assert [text_of(asker.ask(url, body())) for _ in range(3)] == ["bad", "good", "good"]
    assert [reply["choices"][0]["message"]["content"] for reply in seen] == ["bad", "good"]


def test_keep_sees_a_stream_joined(kind, maker, provider, url):
    seen = []
    asker = maker(kind, "memory://", keep=lambda reply: seen.append(reply) or True)
    asker.ask(url, body(stream=True))
    assert seen[0]["object"] == "chat.completion"
    assert seen[0]["choices"][0]["message"]["content"] == "Hello"


def test_keep_that_fails_breaks_nothing(kind, maker, provider, url):
    told = []
    asker = maker(kind, "memory://", keep=lambda reply: reply["no such field"], observe=told.append)
    assert text_of(asker.ask(url, body())) == "Hello"
    assert "KeyError" in told[-1].reason
    asker.ask(url, body())
    assert provider.count == 2
