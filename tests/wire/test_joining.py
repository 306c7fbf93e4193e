import importlib
import json

import pytest

from askonce import wire
from askonce.errors import AnswerError
from askonce.wire import deltas
from askonce.wire.sse import Event, parse
from tests.wire.transcripts import FAILED, FOLDER, RECORDED, WHOLE, WIRES, WRITTEN, join, joined

MODELS = {
    "openai_chat": ("openai.types.chat", "ChatCompletion"),
    "openai_completions": ("openai.types", "Completion"),
    "openai_responses": ("openai.types.responses", "Response"),
    "anthropic_messages": ("anthropic.types", "Message"),
}


def model_of(folder):
    module, name = MODELS[folder]
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("stream", WRITTEN, ids=str)
def test_written_streams_join_to_the_answer_beside_them(stream):
    assert joined(stream) == stream.beside(".joined.json")


@pytest.mark.parametrize("stream", RECORDED, ids=str)
def test_recorded_streams_join_to_what_the_server_answers_plainly(stream):
    name = stream.place.stem.replace("stream", "").replace("_usage", "").strip("_") or "plain"
    if stream.place.parent.name == "openai_completions":
        name = "plain"
    place = stream.place.with_name(name + ".json")
    answer, plain = joined(stream), json.loads(place.read_bytes())
    assert answer.keys() | {"usage", "timings"} >= plain.keys() - {"completed_at"}
    assert answer["object" if "object" in answer else "type"] == plain.get("object", "message")
    assert said(answer) == said(plain) or "logprobs" in stream.place.stem


def said(answer):
    """Give what an answer says, without ids and times."""
    if "choices" in answer:
        return answer["choices"]
    if "content" in answer:
        return answer["content"], answer["stop_reason"]
    return [item["content"] for item in answer["output"]]


def test_log_probabilities_join():
    folder = FOLDER / "openai_chat"
    (answer,) = [
        joined(stream) for stream in RECORDED if str(stream) == "openai_chat/logprobs_stream"
    ]
    plain = json.loads((folder / "logprobs.json").read_bytes())
    tokens = [entry["token"] for entry in plain["choices"][0]["logprobs"]["content"]]
    assert [entry["token"] for entry in answer["choices"][0]["logprobs"]["content"]] == tokens
    assert answer["choices"][0]["message"] == plain["choices"][0]["message"]


@pytest.mark.parametrize(
    "stream", [stream for stream in WHOLE if stream.place.parent.name in MODELS], ids=str
)
def test_joined_answers_are_answers_to_the_sdks(stream):
    answer = joined(stream)
    model = model_of(stream.place.parent.name)
    if stream in RECORDED and answer.get("object") == "response":
        # This server leaves out fields that the SDK's type requires; the SDK itself lets it.
        parsed = model.construct(**answer)
    else:
        parsed = model.model_validate(answer)
    kept = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    assert kept == answer


@pytest.mark.parametrize("stream", FAILED, ids=str)
def test_nothing_is_kept_of_a_broken_stream(stream):
    joiner = stream.wire.joiner()
    for event in parse(stream.content):
        joiner.feed(event)
    assert (joiner.failed is not None) or not joiner.complete
    if stream.place.stem.endswith("no_end"):
        assert joiner.failed is None
    else:
        assert joiner.failed
    with pytest.raises(AnswerError):
        joiner.response()


@pytest.mark.parametrize("stream", WHOLE, ids=str)
def test_no_beginning_of_a_stream_is_an_answer(stream):
    events = parse(stream.content)
    last = max(place for place, event in enumerate(events) if event.data is not None)
    joiner = stream.wire.joiner()
    for event in events[:last]:
        joiner.feed(event)
        assert not joiner.complete
    joiner.feed(events[last])
    assert joiner.complete


@pytest.mark.parametrize("data", [b"{", b"nonsense", b"[1]", b'{"a": NaN}', b'{"a": "\xff"}', b"5"])
@pytest.mark.parametrize("answers", WIRES.values(), ids=list(WIRES))
def test_data_that_is_not_json_fails_the_stream(answers, data):
    joiner = answers.joiner()
    joiner.feed(Event.of(data))
    assert joiner.failed


ODD = [
    {"choices": [5]},
    {"choices": [{"index": "0", "delta": {}}]},
    {"choices": [{"index": 0, "delta": "x", "text": 5}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": "x"}, "text": []}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": "x"}]}, "text": {}}]},
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("folder", ["openai_chat", "openai_completions"])
def test_odd_chunks_fail_the_stream(folder, body):
    joiner = WIRES[folder].joiner()
    joiner.feed(Event.of(wire.write_body(body)))
    assert joiner.failed


@pytest.mark.parametrize(
    "bodies",
    [
        [{"type": "content_block_delta", "index": 0, "delta": {}}],
        [{"type": "message_start"}],
        [{"type": "message_start", "message": {}}, {"type": "message_start", "message": {}}],
        [{"type": "message_start", "message": {}}, {"type": "content_block_start", "index": 0}],
        [{"type": "message_start", "message": {}}, {"type": "content_block_start"}],
        [{"type": "message_start", "message": {}}, {"type": "message_stop"}],
        [
            {"type": "message_start", "message": {}},
            {"type": "content_block_start", "index": 0, "content_block": {}},
            {"type": "content_block_delta", "index": 0, "delta": 5},
        ],
        [
            {"type": "message_start", "message": {}},
            {"type": "content_block_start", "index": 0, "content_block": {}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": 5},
            },
        ],
    ],
    ids=range(8),
)
def test_odd_messages_fail_the_stream(bodies):
    joiner = WIRES["anthropic_messages"].joiner()
    for body in bodies:
        joiner.feed(Event.of(wire.write_body(body)))
    assert joiner.failed


@pytest.mark.parametrize(
    "body",
    [
        {"candidates": [5]},
        {"candidates": [{"index": "x"}]},
    ],
)
def test_odd_candidates_fail_the_stream(body):
    joiner = WIRES["gemini"].joiner()
    joiner.feed(Event.of(wire.write_body(body)))
    assert joiner.failed


def test_a_final_event_without_its_response_fails_the_stream():
    joiner = WIRES["openai_responses"].joiner()
    joiner.feed(Event.of(b'{"type": "response.completed"}'))
    assert joiner.failed


def test_what_follows_the_end_mark_is_passed_over():
    stream = next(stream for stream in WHOLE if str(stream) == "openai_chat/written_tools")
    events = parse(stream.content)
    assert join(stream.wire, [*events, Event.of(b"rubbish")]) == joined(stream)


def test_unknown_fields_survive():
    def chunk(choice, **more):
        return Event.of(wire.write_body({"id": "1", "choices": [{"index": 0, **choice}], **more}))

    events = [
        chunk({"delta": {"role": "assistant", "mood": "ca"}, "stop": None}, seen=1),
        chunk({"delta": {"mood": "lm", "parts": [1], "deep": {"x": "a", "n": 1}}}, seen=2),
        chunk({"delta": {"parts": [2], "deep": {"x": "b", "n": 2}}, "stop": 7}, other={"a": [1]}),
        chunk({"delta": {"content": None}, "finish_reason": "stop"}),
        Event.of(b"[DONE]"),
    ]
    assert join(WIRES["openai_chat"], events) == {
        "id": "1",
        "seen": 2,
        "other": {"a": [1]},
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "mood": "calm",
                    "parts": [1, 2],
                    "deep": {"x": "ab", "n": 2},
                    "content": None,
                },
                "stop": 7,
                "finish_reason": "stop",
            }
        ],
    }


def test_tool_calls_may_interleave_and_repeat_their_ids():
    def chunk(*calls, finish=None):
        choice = {"index": 0, "delta": {"tool_calls": list(calls)}, "finish_reason": finish}
        return Event.of(wire.write_body({"choices": [choice]}))

    def call(index, arguments, **more):
        return {"index": index, "function": {"arguments": arguments}, **more}

    events = [
        chunk(call(1, "[", id="b", type="function"), call(0, "{", id="a", type="function")),
        chunk(call(0, "}", id="", type="function"), call(1, "]", id="b")),
        chunk(finish="tool_calls"),
        Event.of(b"[DONE]"),
    ]
    (choice,) = join(WIRES["openai_chat"], events)["choices"]
    assert choice["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"arguments": "[]"}},
    ]


def test_joining_many_pieces_costs_little_per_piece():
    answer = {}
    for _ in range(200_000):
        deltas.add(answer, {"content": "word "})
    assert len(deltas.settled(answer)["content"]) == 1_000_000
