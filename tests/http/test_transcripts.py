"""Transcripts of real servers, served again to the real SDKs through a cache."""

import json

import pytest

import askonce
from askonce import wire
from tests.http import sdks
from tests.http import server as servers
from tests.http.askers import make
from tests.http.server import chunked, plain
from tests.wire import transcripts

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini": "/v1beta/models/gemini-x:generateContent",
}
CONTENT = {
    "openai_chat": {"messages": []},
    "openai_completions": {"prompt": "a"},
    "openai_responses": {"input": "a"},
    "anthropic_messages": {"messages": [], "max_tokens": 9},
}


def name_of(transcript):
    return str(transcript)


def folder_of(transcript):
    return transcript.place.parent.name


def of_sdks(found):
    return [transcript for transcript in found if folder_of(transcript) != "gemini"]


def request_for(transcript):
    """Give the path and the body that were recorded, or some where the answer was written."""
    place = transcript.place.with_name(f"{transcript.place.stem}.request.json")
    if place.exists():
        request = json.loads(place.read_text("utf-8"))
        return request["path"], request["body"]
    folder = folder_of(transcript)
    stream = {"stream": True} if transcript.place.suffix == ".sse" else {}
    return PATHS[folder], {"model": "m", **CONTENT[folder], **stream}


@pytest.fixture(params=sdks.KINDS)
def colour(request):
    return request.param


def served(transcript):
    """Give what serves a transcript, whatever it is asked, in pieces of a few bytes."""
    content = transcript.content
    if transcript.place.suffix == ".json":
        return lambda asked: plain(content)
    return lambda asked: chunked([content[i : i + 50] for i in range(0, len(content), 50)])


@pytest.mark.parametrize("transcript", of_sdks(transcripts.WHOLE), ids=name_of)
def test_a_recorded_stream_serves_streams_event_by_event_and_plain_answers(colour, transcript):
    path, body = request_for(transcript)
    with servers.running(served(transcript)) as provider, sdks.opened(colour, provider.address) as bare:
        without = bare.ask(path, body)
        with sdks.opened(colour, provider.address, "memory://") as sdk, askonce.policy(keep=wire.KEPT_IF_ASKED):
            first = sdk.ask(path, body)
            second = sdk.ask(path, body)
            whole = sdk.ask(path, {**body, "stream": False})
        assert first == second == without
        assert provider.count == 2
        assert whole == as_sdk_has_it(colour, path, transcripts.joined(transcript))


def as_sdk_has_it(colour, path, answer):
    """Give a plain answer as the SDK reads it."""
    with servers.running(lambda asked: plain(answer)) as provider, sdks.opened(colour, provider.address) as bare:
        return bare.ask(path, {"model": "m", **CONTENT[next(n for n, p in PATHS.items() if p == path)]})


@pytest.mark.parametrize("transcript", of_sdks(transcripts.BODIES), ids=name_of)
def test_a_recorded_body_serves_plain_answers_field_by_field_and_streams(colour, transcript):
    path, body = request_for(transcript)
    answers = transcript.wire
    with servers.running(served(transcript)) as provider, sdks.opened(colour, provider.address) as bare:
        without = bare.ask(path, body)
        with sdks.opened(colour, provider.address, "memory://") as sdk, askonce.policy(keep=wire.KEPT_IF_ASKED):
            first = sdk.ask(path, body)
            second = sdk.ask(path, body)
            events = sdk.ask(path, {**body, "stream": True})
        assert first == second == without
        assert provider.count == 2
    said = json.loads(transcript.content)
    expected = answers.split(said, usage=answers.wants_usage(body))
    stream = b"".join(event.raw for event in expected)
    with servers.running(lambda asked: chunked([stream])) as provider, sdks.opened(colour, provider.address) as bare:
        assert events == bare.ask(path, {**body, "stream": True})
    assert answers.shortfall(transcripts.join(answers, expected)) == answers.shortfall(said)


@pytest.mark.parametrize("transcript", of_sdks(transcripts.FAILED), ids=name_of)
def test_a_failed_stream_looks_as_it_does_without_a_cache_and_is_not_kept(colour, transcript):
    path, body = request_for(transcript)
    with servers.running(served(transcript)) as provider, sdks.opened(colour, provider.address) as bare:
        without = bare.ask(path, body)
        with sdks.opened(colour, provider.address, "memory://") as sdk, askonce.policy(keep=wire.KEPT_IF_ASKED):
            assert sdk.ask(path, body) == without
            assert sdk.ask(path, body) == without
        assert provider.count == 3


@pytest.mark.parametrize("transcript", [t for t in transcripts.WHOLE if folder_of(t) == "gemini"], ids=name_of)
def test_gemini_streams_serve_both_methods(transcript):
    asked = {"contents": [{"parts": [{"text": "Hi"}]}]}
    with servers.running(served(transcript)) as provider:
        address = f"{provider.address}/v1beta/models/gemini-x:"
        asker = make("httpx2", "memory://")
        with askonce.policy(keep=["content_filter"]):
            first = asker.ask(f"{address}streamGenerateContent?alt=sse&key=k", asked)
            again = asker.ask(f"{address}streamGenerateContent?alt=sse&key=other", asked)
            whole = asker.ask(f"{address}generateContent", asked)
        asker.close()
        assert again.raw == first.raw
        assert whole.json() == transcripts.joined(transcript)
        assert provider.count == 1


@pytest.mark.parametrize("name", ["float", "base64", "tokens"])
def test_recorded_embeddings(colour, name):
    place = transcripts.FOLDER / "openai_embeddings"
    request = json.loads((place / f"{name}.request.json").read_text("utf-8"))
    content = (place / f"{name}.json").read_bytes()

    def answer(asked):
        # The batch has an input twice, which is asked for once: the first vectors are for those.
        said = json.loads(content)
        said["data"] = said["data"][: len(asked.json()["input"])]
        return plain(said)

    with servers.running(answer) as provider, sdks.opened(colour, provider.address, "memory://") as sdk:
        first = sdk.ask(request["path"], request["body"])
        second = sdk.ask(request["path"], request["body"])
        assert first["data"] == second["data"]
        assert len(first["data"]) == len(request["body"]["input"])
        assert second["usage"]["total_tokens"] == 0
        assert provider.count == 1
