"""Streams of chunks with choices: what chat and text completions have in common."""

from abc import abstractmethod
from collections.abc import Sequence

from askonce.errors import AnswerError
from askonce.wire import deltas
from askonce.wire.contract import KEPT_IF_ASKED, Joiner, Shortfall
from askonce.wire.json_body import Json, parse_body, write_body
from askonce.wire.sse import Event

DONE = Event.of(b"[DONE]")

_STREAM_ONLY = frozenset({"choices", "obfuscation"})
"""Fields of chunks that the answer has not, or has otherwise."""

_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields that every chunk has."""

_CONSTANT = frozenset({"id", "object", "created", "model"})
"""Fields of the head whose first value stays."""

_ENDINGS: dict[object, Shortfall | None] = {
    "stop": None,
    "tool_calls": None,
    "function_call": None,
    # What other servers say for the same.
    "eos": None,
    "eos_token": None,
    "end_turn": None,
    "stop_sequence": None,
    "tool_use": None,
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "error": "error",
}


class ChunkJoiner(Joiner):
    """Join chunks: choices by index, the head from the first chunk that has each field."""

    def __init__(self) -> None:
        super().__init__()
        self._head: Json = {}
        self._choices: dict[int, Json] = {}

    def _take(self, name: str, body: Json) -> None:
        if body.get("error") or name == "error":
            raise AnswerError(f"the provider reported an error in the stream: {body}")
        head = self._head
        for field, value in body.items():
            # Fields repeat in every chunk; Azure's first chunk has most of them empty.
            if field in _STREAM_ONLY or (field in _CONSTANT and head.get(field)):
                continue
            if value or field not in head:
                head[field] = value
        choices = body.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                raise AnswerError("a choice in the stream is not an object")
            index = choice.get("index", 0)
            if not isinstance(index, int):
                raise AnswerError("the index of a choice in the stream is not a number")
            self._add(self._choices.setdefault(index, {"index": index}), choice)

    def _done(self) -> None:
        if not self._choices:
            raise AnswerError("the stream ended without a choice")
        if any(not choice.get("finish_reason") for choice in self._choices.values()):
            raise AnswerError("the stream ended before every choice was finished")
        self.complete = True

    def _response(self) -> Json:
        choices = [deltas.settled(choice) for _, choice in sorted(self._choices.items())]
        return {**deltas.settled(self._head), "choices": choices}

    @abstractmethod
    def _add(self, choice: Json, piece: Json) -> None:
        """Add a piece of a choice to it."""


def shortfall_of(response: Json, content: str) -> Shortfall | None:
    """Tell why this answer may not be kept; `content` names the field with a choice's answer."""
    if response.get("error"):
        return "error"
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        return "malformed"
    indexes: list[int] = []
    found: list[Shortfall] = []
    for choice in choices:
        if not isinstance(choice, dict):
            return "malformed"
        if choice.get("error"):
            return "error"
        index = choice.get("index")
        if choice.get(content) is None or not isinstance(index, int) or isinstance(index, bool):
            return "malformed"
        indexes.append(index)
        reason = choice.get("finish_reason")
        ending = _ENDINGS.get(reason, "unfinished") if isinstance(reason, str) else "unfinished"
        if ending is not None:
            found.append(ending)
    if indexes != sorted(set(indexes)):
        return "malformed"
    return min(found, key=_by_weight, default=None)


def _by_weight(shortfall: Shortfall) -> bool:
    return shortfall in KEPT_IF_ASKED


def chunks_of(response: Json, kind: object, choices: Sequence[Json], *, usage: bool) -> list[Event]:
    """Put pieces of choices in chunks, usage in one of its own, then the end mark.

    What is not part of a chunk's head comes once, in the last chunk.
    """
    head: Json = {name: response[name] for name in _HEAD if name in response}
    if "object" in head:
        head["object"] = kind
    rest = {
        name: value
        for name, value in response.items()
        if name not in head and name not in ("choices", "usage")
    }
    chunks: list[Json] = [{**head, "choices": [piece]} for piece in choices]
    if usage and "usage" in response:
        for chunk in chunks:
            chunk["usage"] = None
        if response["usage"] is not None:
            chunks.append({**head, "choices": [], "usage": response["usage"]})
    chunks[-1].update(rest)
    return [*(Event.of(write_body(chunk)) for chunk in chunks), DONE]


def without_usage(events: Sequence[Event]) -> list[Event]:
    """Leave out the chunk that holds nothing but the usage, and usage from all others."""
    kept: list[Event] = []
    for event in events:
        if event.data is None or b'"usage"' not in event.data:
            kept.append(event)
            continue
        body = parse_body(event.data)
        if body.get("usage") is None:
            kept.append(event)
        elif body.get("choices") or "moderation" in body:
            del body["usage"]
            kept.append(Event.of(write_body(body), event.name))
    return kept
