import json

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from askonce.wire.sse import Event, parse
from tests.wire.answers import ANSWERS
from tests.wire.transcripts import BODIES, WHOLE, WIRES, answers_of, join, joined

KEEPABLE = [
    (source, answer)
    for source, answer in answers_of()
    if source.wire.shortfall(answer) in (None, "length")
]
EVENTS = {
    "openai_chat": TypeAdapter(ChatCompletionChunk),
    "openai_completions": TypeAdapter(Completion),
    "openai_responses": TypeAdapter(ResponseStreamEvent),
    "anthropic_messages": TypeAdapter(RawMessageStreamEvent),
}


def keepable(*folders):
    """Give the answers of a provider as parameters of a test."""
    chosen = [pair for pair in KEEPABLE if pair[0].place.parent.name in folders]
    return pytest.mark.parametrize(
        ("source", "answer"), chosen, ids=[str(source) for source, _ in chosen]
    )


@keepable(*WIRES)
def test_a_recorded_answer_is_joined_again(source, answer):
    events = source.wire.split(answer, usage=True)
    assert join(source.wire, events) == answer
    assert parse(b"".join(event.raw for event in events)) == events


@given(st.data())
@pytest.mark.parametrize("folder", ANSWERS)
def test_any_answer_is_joined_again(folder, data):
    answer = data.draw(ANSWERS[folder])
    wire = WIRES[folder]
    before = json.dumps(answer)
    events = wire.split(answer, usage=True)
    assert join(wire, events) == answer
    without = join(wire, wire.split(answer, usage=False))
    if folder in ("openai_chat", "openai_completions"):
        assert without == {name: value for name, value in answer.items() if name != "usage"}
    else:
        assert without == answer
    assert json.dumps(answer) == before


@keepable(*EVENTS)
def test_every_event_is_one_to_the_sdk(source, answer):
    folder = source.place.parent.name
    if folder == "openai_responses" and not source.place.stem.startswith("written_"):
        return  # the recorded server leaves out what the SDK's types require
    for event in source.wire.split(answer, usage=True):
        if event.data != b"[DONE]":
            body = json.loads(event.data)
            if folder == "openai_completions":
                # The SDK has one type for answers and chunks, in which chunks must be finished.
                for choice in body["choices"]:
                    choice["finish_reason"] = choice["finish_reason"] or "stop"
            EVENTS[folder].validate_python(body)
            assert event.name in ("", body.get("type"))


def serving(raw):
    """Give a transport that answers everything with this stream."""
    headers = {"content-type": "text/event-stream"}
    return httpx2.Client(
        transport=httpx2.MockTransport(
            lambda request: httpx2.Response(200, headers=headers, content=raw)
        )
    )


def raw_of(source, answer):
    return b"".join(event.raw for event in source.wire.split(answer, usage=True))


@keepable("openai_chat")
def test_the_sdk_joins_a_split_chat_answer_to_the_same(source, answer):
    with serving(raw_of(source, answer)) as http:
        client = openai.OpenAI(api_key="k", http_client=http)
        request = client.chat.completions.stream(model="m", messages=[])
        with request as stream:
            for _ in stream:
                pass
            try:
                final = stream.get_final_completion()
            except openai.LengthFinishReasonError as error:
                final = error.completion
    said = [choice.message.content or None for choice in final.choices]
    assert said == [choice["message"].get("content") or None for choice in answer["choices"]]
    calls = [choice.message.tool_calls for choice in final.choices]
    for found, choice in zip(calls, answer["choices"], strict=True):
        expected = choice["message"].get("tool_calls") or []
        assert [call.function.arguments for call in found or []] == [
            call["function"]["arguments"] for call in expected
        ]
    assert [choice.finish_reason for choice in final.choices] == [
        choice["finish_reason"] for choice in answer["choices"]
    ]
    assert (final.usage is not None) == ("usage" in answer)


@keepable("anthropic_messages")
def test_the_sdk_joins_a_split_message_to_the_same(source, answer):
    with serving(raw_of(source, answer)) as http:
        client = anthropic.Anthropic(api_key="k", http_client=http)
        with client.messages.stream(model="m", max_tokens=1, messages=[]) as stream:
            final = stream.get_final_message()
    found = final.to_dict()
    found = {name: found[name] for name in found if found[name] is not None}
    ignored = ("context_management", "stop_sequence", "content")
    for name in answer.keys() - set(ignored):
        assert found[name] == answer[name]
    for block, expected in zip(found["content"], answer["content"], strict=True):
        assert {name: block[name] for name in expected if name != "mood"} == {
            name: expected[name] for name in expected if name != "mood"
        }


@keepable("openai_responses")
def test_the_sdk_joins_a_split_response_to_the_same(source, answer):
    if answer["status"] != "completed":
        return  # the SDK's helper knows no incomplete responses
    with serving(raw_of(source, answer)) as http:
        client = openai.OpenAI(api_key="k", http_client=http)
        with client.responses.stream(model="m", input="x") as stream:
            pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
            final = stream.get_final_response()
    assert final.id == answer["id"]
    assert "".join(pieces) == final.output_text
    assert [item.type for item in final.output] == [item["type"] for item in answer["output"]]


def test_usage_comes_only_where_it_is_wanted():
    chat = WIRES["openai_chat"]
    (answer,) = (answer for source, answer in KEEPABLE if str(source) == "openai_chat/plain")
    wanted = [event.data for event in chat.split(answer, usage=True)]
    unwanted = [event.data for event in chat.split(answer, usage=False)]
    assert json.loads(wanted[-2])["usage"] == answer["usage"]
    assert json.loads(wanted[-2])["choices"] == []
    assert all(json.loads(data)["usage"] is None for data in wanted[:-2])
    assert b"usage" not in b"".join(unwanted)
    never = {name: value for name, value in answer.items() if name != "usage"}
    assert b"usage" not in b"".join(event.data for event in chat.split(never, usage=True))


def test_a_stream_recorded_with_usage_is_served_without():
    chat = WIRES["openai_chat"]
    (stream,) = (stream for stream in WHOLE if str(stream) == "openai_chat/stream_usage")
    events = parse(stream.content)
    kept = chat.without_usage(events)
    assert kept == [*events[:-2], events[-1]]
    assert join(chat, kept) == {
        name: value for name, value in joined(stream).items() if name not in ("usage", "timings")
    }


def test_usage_beside_a_choice_is_taken_out_of_its_chunk():
    chat = WIRES["openai_chat"]
    for name in ("written_reasoning", "written_tools", "stream"):
        (stream,) = (found for found in WHOLE if str(found) == f"openai_chat/{name}")
        answer = join(chat, chat.without_usage(parse(stream.content)))
        expected = {field: value for field, value in joined(stream).items() if field != "usage"}
        assert {field: answer[field] for field in answer if field != "usage"} == expected
        assert answer.get("usage") is None


@pytest.mark.parametrize("folder", ["openai_responses", "anthropic_messages", "gemini"])
def test_other_streams_always_have_their_usage(folder):
    events = [Event.of(b"{}")]
    assert WIRES[folder].without_usage(events) == events
    assert WIRES[folder].wants_usage({})


def test_there_are_transcripts_of_every_provider():
    assert {source.place.parent.name for source in [*BODIES, *WHOLE]} == set(WIRES)
