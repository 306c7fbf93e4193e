"""Why an answer was refused, told for programs: every code there is comes from somewhere."""

from typing import get_args

import pytest

from askonce.events import Code
from tests.http.askers import body
from tests.http.server import Close, Script, chunked, completion, events, plain

REQUESTS = {
    "unreadable": b"{",
    "not_cacheable": body(store=True),
    "random": body(temperature=1),
}
CUT = events("Hel", "lo")[:-2]
ANSWERS = {
    "provider_status": lambda: plain({"error": {}}, 500),
    "not_whole": lambda: chunked([*CUT, Close]),
    "error": lambda: plain({"error": {"message": "no"}}),
    "malformed": lambda: plain({}),
    "unfinished": lambda: plain(completion(reason=None)),
    "length": lambda: plain(completion(reason="length")),
    "content_filter": lambda: plain(completion(reason="content_filter")),
    "refusal": lambda: plain(refusing()),
    "no_answer": lambda: [Close],
}


def refusing():
    answer = completion()
    answer["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I won't."}
    return answer


ELSEWHERE = {"no_store", "too_long", "keep_hook"}
NOT_HTTP = {"unidentified", "not_plain"}


def test_every_code_is_told_here_or_by_the_integrations():
    assert {*REQUESTS, *ANSWERS, *ELSEWHERE, *NOT_HTTP} == {*get_args(Code)} - {""}


def codes(told):
    return [event.code for event in told if event.kind == "refused"]


def ask(asker, url, *arguments, **more):
    try:
        asker.ask(url, *arguments, **more)
    except asker.library.TransportError:
        return


@pytest.mark.parametrize("code", REQUESTS)
def test_a_request_that_is_not_cached_has_a_code(kind, maker, provider, url, code):
    told = []
    asker = maker(kind, "memory://", observe=told.append, random=False)
    provider.answer = lambda asked: plain(completion())
    ask(asker, url, REQUESTS[code])
    assert codes(told) == [code]


@pytest.mark.parametrize("code", ANSWERS)
def test_an_answer_that_is_not_kept_has_a_code(kind, maker, provider, url, code):
    told = []
    asker = maker(kind, "memory://", observe=told.append)
    provider.answer = Script(rule=lambda asked: ANSWERS[code]())
    ask(asker, url, body(stream=code == "not_whole"))
    assert codes(told) == [code]


def test_who_wants_nothing_stored_gets_a_code(kind, maker, provider, url):
    told = []
    asker = maker(kind, "memory://", observe=told.append)
    ask(asker, url, body(), {"cache-control": "no-store"})
    assert codes(told) == ["no_store"]


def test_an_answer_that_is_too_long_has_a_code(kind, maker, provider, url, monkeypatch):
    monkeypatch.setattr("askonce.http.recording.Recording.MAX_LENGTH", 10)
    told = []
    ask(maker(kind, "memory://", observe=told.append), url, body())
    assert codes(told) == ["too_long"]


@pytest.mark.parametrize("keep", [lambda reply: False, lambda reply: reply["nothing"]])
def test_what_keep_does_not_want_has_a_code(kind, maker, provider, url, keep):
    told = []
    ask(maker(kind, "memory://", observe=told.append, keep=keep), url, body())
    assert codes(told) == ["keep_hook"]
