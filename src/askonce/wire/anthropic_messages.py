"""Anthropic's messages: `POST …/v1/messages`.

`cache_control` inside messages, tools and system blocks stays part of the identity: it sits among
the user's own data, and at worst one answer is paid for twice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from askonce.errors import AnswerError, InputError
from askonce.wire import deltas, fields
from askonce.wire.contract import Joiner, Shortfall, Usage
from askonce.wire.json_body import Json, parse_body, write_body
from askonce.wire.sse import Event

NAME: str = "anthropic.messages"

IGNORED: Mapping[str, str] = {
    "stream": "one entry serves streams and plain answers",
    "metadata": "it names the end user to the provider's abuse monitoring",
    "service_tier": "it decides price and speed; the same model answers",
    "cache_control": "it keeps a place in the provider's prompt cache: price and speed",
}

_STATE = {
    "container": "runs in a container that the provider keeps",
    "mcp_servers": "acts on remote servers",
    "thread": "continues a conversation that the provider keeps",
    "fallback_credit_token": "can be redeemed once",
}
_HOSTED_TOOLS = {
    "web_search_": "reads the web as it is now",
    "web_fetch_": "reads the web as it is now",
    "code_execution_": "runs in a container that the provider keeps",
    "mcp_toolset": "acts on a remote server",
}
_ENDINGS: dict[object, Shortfall | None] = {
    "end_turn": None,
    "stop_sequence": None,
    "tool_use": None,
    "compaction": None,
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_TOOL_USES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})

wants_stream = fields.wants_stream


def refusal(body: Json) -> str | None:
    """Tell why the answer to this request may not be cached."""
    return (
        fields.field_refusal(body, _STATE)
        or fields.tool_refusal(body, _HOSTED_TOOLS)
        or fields.stream_refusal(body)
    )


def identity(path: str, body: Json) -> Json:
    """Give what decides the answer."""
    return fields.identity_of(NAME, path, body, IGNORED)


def model(path: str, body: Json) -> str:
    """Give the model that is asked for."""
    return fields.text(body, "model")


def wants_usage(body: Json) -> bool:
    """Tell that every stream carries its usage."""
    return True


def without_usage(events: Sequence[Event]) -> list[Event]:
    """Give the events as they are: every request wants the usage."""
    return list(events)


def shortfall(response: Json) -> Shortfall | None:
    """Tell why this answer may not be kept."""
    if response.get("type") == "error" or response.get("error"):
        return "error"
    blocks = response.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return "malformed"
    reason = response.get("stop_reason")
    return _ENDINGS.get(reason, "unfinished") if isinstance(reason, str) else "unfinished"


def usage(response: Json) -> Usage | None:
    """Give what the answer cost. The provider counts cached input apart from the rest."""
    counts = response.get("usage")
    fresh, output = fields.count(counts, "input_tokens"), fields.count(counts, "output_tokens")
    if fresh is None or output is None:
        return None
    cached = fields.count(counts, "cache_read_input_tokens")
    written = fields.count(counts, "cache_creation_input_tokens")
    total = fresh + (cached or 0) + (written or 0)
    return Usage(fields.text(response, "model"), total, output, cached, written)


class _MessageJoiner(Joiner):
    def __init__(self) -> None:
        super().__init__()
        self._message: Json | None = None
        self._blocks: dict[int, Json] = {}
        self._inputs: dict[int, list[str]] = {}
        self._open: set[int] = set()

    def _take(self, name: str, body: Json) -> None:
        kind = body.get("type", name)
        if kind == "error" or body.get("error"):
            raise AnswerError(f"the provider reported an error in the stream: {body}")
        if kind == "message_start":
            if self._message is not None or not isinstance(body.get("message"), dict):
                raise AnswerError("the stream starts twice, or without a message")
            self._message = body["message"]
        elif kind in ("content_block_start", "content_block_delta", "content_block_stop"):
            self._take_block(kind, body)
        elif kind == "message_delta":
            self._end_message(body)
        elif kind == "message_stop":
            if self._open or self._started().get("stop_reason") is None:
                raise AnswerError("the stream stopped before the message was finished")
            self.complete = True

    def _started(self) -> Json:
        if self._message is None:
            raise AnswerError("the stream does not start with a message")
        return self._message

    def _take_block(self, kind: str, body: Json) -> None:
        self._started()
        index = body.get("index")
        if not isinstance(index, int):
            raise AnswerError("a content block in the stream has no index")
        if kind == "content_block_start":
            block = body.get("content_block")
            if index in self._blocks or not isinstance(block, dict):
                raise AnswerError(f"content block {index} starts twice, or is not an object")
            self._blocks[index] = block
            self._open.add(index)
        elif index not in self._open:
            raise AnswerError(f"content block {index} goes on while it is not open")
        elif kind == "content_block_stop":
            self._open.remove(index)
            self._end_input(index)
        else:
            self._add(index, body.get("delta"))

    def _add(self, index: int, delta: object) -> None:
        if not isinstance(delta, dict):
            raise AnswerError(f"a delta of content block {index} is not an object")
        news = {name: value for name, value in delta.items() if name != "type"}
        if delta.get("type") == "input_json_delta":
            piece = news.get("partial_json")
            if not isinstance(piece, str):
                raise AnswerError(f"the input of content block {index} is not text")
            self._inputs.setdefault(index, []).append(piece)
            return
        block = self._blocks[index]
        if delta.get("type") == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), news.get("citation")]
            return
        deltas.add(block, news)

    def _end_input(self, index: int) -> None:
        text = "".join(self._inputs.pop(index, ()))
        if text:
            try:
                self._blocks[index]["input"] = parse_body(text.encode("utf-8", "surrogatepass"))
            except InputError as error:
                raise AnswerError(f"the input of content block {index}: {error}") from None

    def _end_message(self, body: Json) -> None:
        message = self._started()
        delta = body.pop("delta", None)
        counts = body.pop("usage", None)
        body.pop("type", None)
        for news in (delta, body):
            if isinstance(news, dict):
                _overwrite(message, news)
        if isinstance(counts, dict):
            present = message.get("usage")
            message["usage"] = present if isinstance(present, dict) else {}
            # Counts are totals so far, not increments.
            _overwrite(message["usage"], counts)

    def _response(self) -> Json:
        blocks = [block for _, block in sorted(self._blocks.items())]
        return deltas.settled({**self._started(), "content": blocks})


def _overwrite(target: Json, news: Json) -> None:
    for name, value in news.items():
        if value is not None or name not in target:
            target[name] = value


def joiner() -> Joiner:
    """Start joining one stream."""
    return _MessageJoiner()


def split(response: Json, *, usage: bool) -> list[Event]:
    """Give an answer as a stream."""
    bodies = [_start_of(response)]
    for index, block in enumerate(response["content"]):
        bodies += _block_events(block, index)
    bodies += _end_of(response)
    return [Event.of(write_body(body), body["type"]) for body in bodies]


_LATE = ("stop_reason", "stop_sequence", "stop_details")


def _start_of(response: Json) -> Json:
    message = response | {"content": []}
    message |= {name: None for name in _LATE if name in response}
    if fields.count(response.get("usage"), "output_tokens") is not None:
        message["usage"] = response["usage"] | {"output_tokens": 0}
    return {"type": "message_start", "message": message}


def _end_of(response: Json) -> list[Json]:
    delta: Json = {name: response[name] for name in _LATE if name in response}
    output = fields.count(response.get("usage"), "output_tokens")
    late: Json = {} if output is None else {"usage": {"output_tokens": output}}
    return [{"type": "message_delta", "delta": delta, **late}, {"type": "message_stop"}]


def _block_events(block: Json, index: int) -> Iterator[Json]:
    changes = list(_deltas_of(block))
    opened = dict(block)
    for delta in changes:
        opened |= _OPENED[delta["type"]]
    yield {"type": "content_block_start", "index": index, "content_block": opened}
    for delta in changes:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


_OPENED: dict[str, Json] = {
    "text_delta": {"text": ""},
    "thinking_delta": {"thinking": ""},
    "signature_delta": {"signature": ""},
    "input_json_delta": {"input": {}},
    "citations_delta": {"citations": []},
}


def _deltas_of(block: Json) -> Iterator[Json]:
    """Give what a block is told in, so that it starts without it."""
    kind = block.get("type")
    if kind in _TOOL_USES and isinstance(block.get("input"), dict) and block["input"]:
        yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    citations = block.get("citations")
    if kind == "text" and isinstance(citations, list):
        for citation in citations:
            yield {"type": "citations_delta", "citation": citation}
    for name in {"text": ("text",), "thinking": ("thinking", "signature")}.get(str(kind), ()):
        if isinstance(block.get(name), str) and block[name]:
            yield {"type": f"{name}_delta", name: block[name]}
