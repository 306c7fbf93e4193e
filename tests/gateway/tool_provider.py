"""A provider whose answers call tools, of OpenAI's and Anthropic's kind: no small model does."""

import json
from typing import Any

from tests.http import server as servers

ARGUMENTS = {"city": "Paris", "days": 2}
TOLD = "It will rain."
_PIECES = ('{"city": "Pa', 'ris", "days"', ": 2}")
_ID = ("x-request-id", "req-1")

OPENAI_TOOL = {
    "type": "function",
    "function": {
        "name": "forecast",
        "description": "Tell the weather to come.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
ANTHROPIC_TOOL = {
    "name": "forecast",
    "description": "Tell the weather to come.",
    "input_schema": OPENAI_TOOL["function"]["parameters"],
}


def answer(asked: servers.Asked) -> servers.Answer:
    """Call the tool, and once it has told, tell on."""
    if asked.method == "GET":
        return servers.plain({"object": "list", "data": []})
    body = asked.json()
    of_anthropic = asked.target.endswith("/messages")
    knows = _knows(body["messages"])
    if of_anthropic:
        if body.get("stream"):
            return servers.chunked(_anthropic_events(knows), ("request-id", "req-1"))
        return servers.plain(_anthropic_message(knows), 200, ("request-id", "req-1"))
    if body.get("stream"):
        return servers.chunked(_openai_events(knows), _ID)
    return servers.plain(_openai_completion(knows), 200, _ID)


def _knows(messages: list[dict[str, Any]]) -> bool:
    last = messages[-1]
    if last["role"] == "tool":
        return True
    content = last["content"]
    return isinstance(content, list) and any(part["type"] == "tool_result" for part in content)


def _openai_completion(knows: bool) -> dict[str, Any]:
    if knows:
        return servers.completion(TOLD)
    function = {"name": "forecast", "arguments": "".join(_PIECES)}
    call = {"id": "call_1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return servers.completion(choices=[choice])


def _openai_events(knows: bool) -> list[bytes]:
    if knows:
        return servers.events(*TOLD.split(" "))
    function = {"name": "forecast", "arguments": ""}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    begin = {"role": "assistant", "content": None, "tool_calls": [call]}
    rest = [
        servers.chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in _PIECES
    ]
    return [servers.chunk(begin), *rest, servers.chunk({}, "tool_calls"), servers.DONE]


def _anthropic_message(knows: bool) -> dict[str, Any]:
    content = (
        {"type": "text", "text": TOLD}
        if knows
        else {"type": "tool_use", "id": "toolu_1", "name": "forecast", "input": ARGUMENTS}
    )
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [content],
        "stop_reason": "end_turn" if knows else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 5},
    }


def _anthropic_events(knows: bool) -> list[bytes]:
    whole = _anthropic_message(knows)
    (block,) = whole["content"]
    if knows:
        begin, pieces = {**block, "text": ""}, [("text_delta", "text", TOLD)]
    else:
        begin = {**block, "input": {}}
        pieces = [("input_json_delta", "partial_json", piece) for piece in _PIECES]
    start = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 0}}
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return [
        _event("message_start", message=start),
        _event("content_block_start", index=0, content_block=begin),
        *(
            _event("content_block_delta", index=0, delta={"type": kind, name: piece})
            for kind, name, piece in pieces
        ),
        _event("content_block_stop", index=0),
        _event("message_delta", delta=end, usage={"output_tokens": 5}),
        _event("message_stop"),
    ]


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
