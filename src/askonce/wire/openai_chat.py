"""OpenAI's chat completions: `POST …/chat/completions`."""

from collections.abc import Mapping
from typing import Any

from askonce.errors import AnswerError
from askonce.wire import deltas, fields, openai, openai_chunks
from askonce.wire.contract import Joiner, Shortfall, Usage
from askonce.wire.json_body import Json
from askonce.wire.sse import Event

NAME: str = "openai.chat"

IGNORED: Mapping[str, str] = {
    **openai.IGNORED,
    "store": "false, like its absence, asks the provider to keep nothing",
}

_CHUNK = {"chat.completion": "chat.completion.chunk"}


model = openai.model_of
wants_stream = fields.wants_stream
wants_usage = openai.wants_usage
without_usage = openai_chunks.without_usage


def refusal(body: Json) -> str | None:
    """Tell why the answer to this request may not be cached."""
    if refused := fields.field_refusal(body, openai.STORE):
        return refused
    if body.get("web_search_options") is not None:
        return "`web_search_options` reads the web as it is now"
    return fields.stream_refusal(body) or fields.tool_refusal(body, openai.HOSTED_TOOLS)


def identity(path: str, body: Json) -> Json:
    """Give what decides the answer."""
    return fields.identity_of(NAME, path, body, IGNORED)


def shortfall(response: Json) -> Shortfall | None:
    """Tell why this answer may not be kept."""
    found = openai_chunks.shortfall_of(response, "message")
    if found in ("error", "malformed"):
        return found
    messages = [choice["message"] for choice in response["choices"]]
    if not all(map(_is_message, messages)):
        return "malformed"
    if found is None and any(message.get("refusal") for message in messages):
        return "refusal"
    return found


def _is_message(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    calls = message.get("tool_calls")
    if calls is None:
        return True
    return isinstance(calls, list) and all(isinstance(call, dict) for call in calls)


def usage(response: Json) -> Usage | None:
    """Give what the answer cost."""
    return openai.usage_of(response, "prompt", "completion")


class _ChatJoiner(openai_chunks.ChunkJoiner):
    def _add(self, choice: Json, piece: Json) -> None:
        delta = piece.pop("delta", None)
        deltas.renew(choice, piece)
        message: Json = choice.setdefault("message", {})
        if not isinstance(delta, dict):
            if delta is not None:
                raise AnswerError("a delta in the stream is not an object")
            return
        if "tool_calls" in delta:
            _add_calls(message, delta.pop("tool_calls"))
        deltas.add(message, delta)

    def _response(self) -> Json:
        response = super()._response()
        if response.get("object") == "chat.completion.chunk":
            response["object"] = "chat.completion"
        for choice in response["choices"]:
            calls = choice["message"].get("tool_calls")
            if isinstance(calls, dict):
                choice["message"]["tool_calls"] = [call for _, call in sorted(calls.items())]
        return response


def _add_calls(message: Json, calls: Any) -> None:
    """Gather tool calls by their index in the stream, which the plain answer does not have."""
    if calls is None:
        message.setdefault("tool_calls", None)
        return
    gathered: dict[int, Json] = message.get("tool_calls") or {}
    message["tool_calls"] = gathered
    for place, call in enumerate(calls if isinstance(calls, list) else [calls]):
        index = call.pop("index", place) if isinstance(call, dict) else None
        if not isinstance(index, int):
            raise AnswerError("a tool call in the stream is not an object with an index")
        deltas.add(gathered.setdefault(index, {}), call)


def joiner() -> Joiner:
    """Start joining one stream."""
    return _ChatJoiner()


def split(response: Json, *, usage: bool) -> list[Event]:
    """Give an answer as a stream."""
    pieces = [piece for choice in response["choices"] for piece in _pieces_of(choice)]
    kind = response.get("object")
    kind = _CHUNK.get(kind, kind) if isinstance(kind, str) else kind
    return openai_chunks.chunks_of(response, kind, pieces, usage=usage)


def _pieces_of(choice: Json) -> list[Json]:
    """Give a choice in pieces: role, texts, tool calls one by one, end."""
    rest = {name: value for name, value in choice.items() if name not in ("index", "message")}
    ending = rest.pop("finish_reason", None)
    message: Json = dict(choice["message"])
    calls = message.pop("tool_calls", None)
    texts = {
        name: text
        for name, text in message.items()
        if isinstance(text, str) and text and name not in deltas.WHOLE
    }
    begin = {name: value for name, value in message.items() if name not in texts}
    if "content" in texts:
        begin["content"] = ""
    if "tool_calls" in choice["message"] and not calls:
        begin["tool_calls"] = calls
    # Reasoning comes before what it led to, whatever their order in the answer.
    order = sorted(texts, key=lambda name: name == "content")
    all_deltas = [begin, *({name: texts[name]} for name in order), *_call_deltas(calls or [])]
    nothing = dict.fromkeys(rest)
    pieces = [
        {"index": choice["index"], "delta": delta, **nothing, "finish_reason": None}
        for delta in all_deltas
    ]
    # What surrounds the text (its log probabilities) comes with the first text there is.
    pieces[min(1, len(pieces) - 1)].update(rest)
    end = {"index": choice["index"], "delta": {}, **nothing, "finish_reason": ending}
    return [*pieces, end]


def _call_deltas(calls: list[Json]) -> list[Json]:
    found: list[Json] = []
    for index, call in enumerate(calls):
        function = call.get("function")
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(function, dict) and isinstance(arguments, str) and arguments:
            begin = {**call, "function": {**function, "arguments": ""}}
            found.append({"tool_calls": [{"index": index, **begin}]})
            found.append({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
        else:
            found.append({"tool_calls": [{"index": index, **call}]})
    return found
