import json

import pytest

from askonce.wire import KEPT_IF_ASKED, SHORTFALLS, Usage
from tests.wire.transcripts import FOLDER, WIRES, answers_of

CUT = {
    "openai_chat/length",
    "openai_chat/logprobs",
    "openai_chat/logprobs_stream",
    "openai_chat/two",
    "openai_chat/two_stream",
    "openai_chat/tools",
    "openai_chat/tools_stream",
    "openai_completions/plain",
    "openai_completions/stream",
    "openai_completions/stream_usage",
    "openai_completions/logprobs_stream",
    "anthropic_messages/tools",
    "anthropic_messages/tools_stream",
    "openai_responses/written_incomplete",
}
OTHERS = {"openai_chat/written_refusal": "refusal", "gemini/written_blocked": "content_filter"}


@pytest.mark.parametrize(
    ("source", "answer"), answers_of(), ids=[str(source) for source, _ in answers_of()]
)
def test_what_real_answers_lack(source, answer):
    expected = "length" if str(source) in CUT else OTHERS.get(str(source))
    assert source.wire.shortfall(answer) == expected


def chat(reason="stop", message=None, **more):
    message = {"role": "assistant", "content": "x"} if message is None else message
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason, **more}]}


def completion(reason="stop", text="x"):
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}


def response(status="completed", **more):
    return {"status": status, "output": [], **more}


def incomplete(reason):
    return response("incomplete", incomplete_details={"reason": reason})


def message(reason="end_turn", content=()):
    return {"type": "message", "content": list(content), "stop_reason": reason}


def gemini(reason="STOP"):
    return {"candidates": [{"content": {"parts": []}, "finishReason": reason}]}


TWO = [
    {"index": 0, "message": {}, "finish_reason": "length"},
    {"index": 1, "message": {}, "finish_reason": None},
]


@pytest.mark.parametrize(
    ("folder", "answer", "expected"),
    [
        ("openai_chat", chat(), None),
        ("openai_chat", chat("tool_calls"), None),
        ("openai_chat", chat("function_call"), None),
        ("openai_chat", chat("length"), "length"),
        ("openai_chat", chat("content_filter"), "content_filter"),
        ("openai_chat", chat(None), "unfinished"),
        ("openai_chat", chat("abort"), "unfinished"),
        ("openai_chat", chat(7), "unfinished"),
        ("openai_chat", chat("error"), "error"),
        ("openai_chat", chat(error={"code": 502}), "error"),
        ("openai_chat", chat(message={"refusal": "no"}), "refusal"),
        ("openai_chat", chat("length", message={"refusal": "no"}), "length"),
        ("openai_chat", chat(message="x"), "malformed"),
        ("openai_chat", chat(message={"tool_calls": "x"}), "malformed"),
        ("openai_chat", chat(message={"tool_calls": [1]}), "malformed"),
        ("openai_chat", {"choices": TWO}, "unfinished"),
        ("openai_chat", {"choices": [chat()["choices"][0]] * 2}, "malformed"),
        ("openai_chat", {"choices": [{"message": {}, "finish_reason": "stop"}]}, "malformed"),
        ("openai_chat", {"choices": [5]}, "malformed"),
        ("openai_chat", {"choices": []}, "malformed"),
        ("openai_chat", {"choices": None, "error": {"message": "x"}}, "error"),
        ("openai_chat", {"error": "boom", **chat()}, "error"),
        ("openai_chat", {"detail": "Not found"}, "malformed"),
        ("openai_chat", {}, "malformed"),
        ("openai_completions", completion(), None),
        ("openai_completions", completion("length"), "length"),
        ("openai_completions", completion(text=None), "malformed"),
        ("openai_completions", completion(text=["x"]), "malformed"),
        ("openai_responses", response(), None),
        ("openai_responses", response("failed"), "error"),
        ("openai_responses", response("cancelled"), "unfinished"),
        ("openai_responses", response("queued"), "unfinished"),
        ("openai_responses", response(error={"code": "x"}), "error"),
        ("openai_responses", incomplete("max_output_tokens"), "length"),
        ("openai_responses", incomplete("content_filter"), "content_filter"),
        ("openai_responses", incomplete("steered"), "unfinished"),
        ("openai_responses", response(output=[{"content": [{"type": "refusal"}]}]), "refusal"),
        ("openai_responses", response(output=None), "malformed"),
        ("openai_responses", response(output=[5]), "malformed"),
        ("anthropic_messages", message(), None),
        ("anthropic_messages", message("tool_use"), None),
        ("anthropic_messages", message("stop_sequence"), None),
        ("anthropic_messages", message("max_tokens"), "length"),
        ("anthropic_messages", message("model_context_window_exceeded"), "length"),
        ("anthropic_messages", message("refusal"), "refusal"),
        ("anthropic_messages", message("pause_turn"), "unfinished"),
        ("anthropic_messages", message(None), "unfinished"),
        ("anthropic_messages", {"type": "error", "error": {}}, "error"),
        ("anthropic_messages", message(content=[5]), "malformed"),
        ("anthropic_messages", {}, "malformed"),
        ("gemini", gemini(), None),
        ("gemini", gemini("MAX_TOKENS"), "length"),
        ("gemini", gemini("SAFETY"), "content_filter"),
        ("gemini", gemini("OTHER"), "unfinished"),
        ("gemini", gemini("MALFORMED_FUNCTION_CALL"), "unfinished"),
        ("gemini", gemini(None), "unfinished"),
        ("gemini", {"candidates": [5]}, "malformed"),
        ("gemini", {"error": {"code": 429}}, "error"),
        ("gemini", {}, "malformed"),
    ],
    ids=str,
)
def test_what_an_answer_lacks(folder, answer, expected):
    assert WIRES[folder].shortfall(answer) == expected


def test_a_recorded_error_is_an_error():
    error = json.loads((FOLDER / "openai_chat" / "error.json").read_bytes())
    assert all(answers.shortfall(error) == "error" for answers in WIRES.values())


def test_every_shortfall_has_its_reason():
    assert KEPT_IF_ASKED < SHORTFALLS.keys()
    assert all(SHORTFALLS.values())


USED = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}


@pytest.mark.parametrize(
    ("folder", "answer", "expected"),
    [
        ("openai_chat", {"model": "m", "usage": USED}, Usage("m", 9, 4, 3)),
        (
            "openai_chat",
            {"model": "m", "usage": {**USED, "prompt_tokens_details": None}},
            Usage("m", 9, 4),
        ),
        ("openai_chat", {"model": "m"}, None),
        ("openai_chat", {"model": "m", "usage": None}, None),
        ("openai_chat", {"model": "m", "usage": {"prompt_tokens": 9}}, None),
        ("openai_chat", {"usage": {"prompt_tokens": "9", "completion_tokens": True}}, None),
        ("openai_completions", {"model": "m", "usage": USED}, Usage("m", 9, 4, 3)),
        (
            "openai_responses",
            {
                "model": "m",
                "usage": {
                    "input_tokens": 9,
                    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                    "output_tokens": 4,
                },
            },
            Usage("m", 9, 4, 3, 2),
        ),
        (
            "anthropic_messages",
            {
                "model": "m",
                "usage": {
                    "input_tokens": 9,
                    "cache_read_input_tokens": 100,
                    "cache_creation_input_tokens": 20,
                    "output_tokens": 4,
                },
            },
            Usage("m", 129, 4, 100, 20),
        ),
        (
            "anthropic_messages",
            {"model": "m", "usage": {"input_tokens": 9, "output_tokens": 4}},
            Usage("m", 9, 4),
        ),
        (
            "gemini",
            {
                "modelVersion": "m",
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "cachedContentTokenCount": 3,
                    "toolUsePromptTokenCount": 1,
                    "candidatesTokenCount": 4,
                    "thoughtsTokenCount": 5,
                },
            },
            Usage("m", 10, 9, 3),
        ),
        ("gemini", {"usageMetadata": {}}, None),
    ],
    ids=range(12),
)
def test_what_an_answer_cost(folder, answer, expected):
    assert WIRES[folder].usage(answer) == expected
