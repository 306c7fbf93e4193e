"""Generations of LangChain's as JSON and back, through fixed tables of types.

    {"generations": [{"type": "ChatGeneration",
                      "message": {"type": "ai", "content": …, …},
                      "generation_info": …, "text": …}, …]}

Nothing is imported by name, and fields at their defaults are left out. What would not come back
equal is refused. Every decoding makes new objects, marked as a hit: with an id of their own, no
tokens, and `cache_hit` in `additional_kwargs` and, of a chat generation, in `generation_info`.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import orjson
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from pydantic import BaseModel, ValidationError

from askonce.integrations.langchain.prompts import HIT_MARK

MESSAGES: Mapping[str, type[BaseMessage]] = {
    "ai": AIMessage,
    "AIMessageChunk": AIMessageChunk,
    "human": HumanMessage,
    "HumanMessageChunk": HumanMessageChunk,
    "system": SystemMessage,
    "SystemMessageChunk": SystemMessageChunk,
    "tool": ToolMessage,
    "ToolMessageChunk": ToolMessageChunk,
    "function": FunctionMessage,
    "FunctionMessageChunk": FunctionMessageChunk,
    "chat": ChatMessage,
    "ChatMessageChunk": ChatMessageChunk,
}
GENERATIONS: Mapping[str, type[Generation]] = {
    "Generation": Generation,
    "GenerationChunk": GenerationChunk,
    "ChatGeneration": ChatGeneration,
    "ChatGenerationChunk": ChatGenerationChunk,
}

FACTORIES: Mapping[type[BaseMessage], Mapping[str, Callable[[], Any]]] = {
    kind: {
        name: cast("Callable[[], Any]", field.default_factory)
        for name, field in kind.model_fields.items()
        if field.default_factory is not None
    }
    for kind in MESSAGES.values()
}
"""Found here once: pydantic looks at the signature of each one it calls, in 100 µs."""

Made = TypeVar("Made", bound=BaseModel)

_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
NO_TOKENS = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


class Refused(Exception):  # noqa: N818  it is an outcome, and never leaves this package
    """Say why an answer cannot be stored."""


def encode(generations: Sequence[Generation]) -> bytes:
    """Write generations as JSON. Raises Refused."""
    records = [record_of(generation) for generation in generations]
    if not records:
        raise Refused("the answer is empty")
    answer = {"generations": records}
    payload = _fast_json(answer)
    if payload is None:
        payload = _exact_json(answer)
    return payload


def _fast_json(answer: dict[str, Any]) -> bytes | None:
    """Write with orjson what it reads back equal; it takes no number longer than 64 bits."""
    try:
        payload = orjson.dumps(answer)
        return payload if orjson.loads(payload) == answer else None
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        return None


def _exact_json(answer: dict[str, Any]) -> bytes:
    """Write what orjson cannot, with a space in front; raises Refused."""
    try:
        text = _JSON.encode(answer)
        same = json.loads(text) == answer
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"the answer is not plain JSON: {error}") from None
    if not same:
        raise Refused("the answer would not come back equal from JSON; it holds more than that")
    return f" {text}".encode()


def decode(payload: bytes, *, bare: bool = False) -> list[Generation] | None:
    """Read generations as those of a hit, None if these are not any.

    What is `bare` is taken for a model's own answer: LangChain will add an id to each message,
    and what the generation tells of it.
    """
    try:
        records = _read(payload)["generations"]
        return [_generation_of(record, bare=bare) for record in records] if records else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _read(payload: bytes) -> Any:
    if not payload.startswith(b" "):
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(payload)
    return json.loads(payload.decode())


def record_of(generation: Generation) -> dict[str, Any]:
    """Give what is kept of a generation, not yet known to be plain JSON. Raises Refused."""
    kind = type(generation).__name__
    if GENERATIONS.get(kind) is not type(generation):
        raise Refused(f"the answer is a {kind}, which only its own package can read back")
    record: dict[str, Any] = {"type": kind}
    if isinstance(generation, ChatGeneration):
        message = generation.message
        record["message"] = fields_of(message)
        if generation.text != message.text:
            record["text"] = generation.text
    else:
        record["text"] = generation.text
    if generation.generation_info is not None:
        record["generation_info"] = without_mark(generation.generation_info)
    return record


def fields_of(message: BaseMessage) -> dict[str, Any]:
    """Give the fields of a message that differ from their defaults, without the id and tokens."""
    if MESSAGES.get(message.type) is not type(message):
        raise Refused(
            f"the answer's message is a {type(message).__name__}, which only its own package "
            "can read back"
        )
    fields: dict[str, Any] = {
        name: value
        for name, value in message.__dict__.items()
        if name not in _NEVER_KEPT and not is_empty(value)
    }
    fields["content"] = message.content
    if message.__pydantic_extra__:
        fields |= message.__pydantic_extra__
    extra = message.additional_kwargs
    if extra:
        fields["additional_kwargs"] = _plain_parsed(without_mark(extra))
    return fields


_NEVER_KEPT = frozenset({"id", "usage_metadata"})


def is_empty(value: object) -> bool:
    """Tell whether a field is at its default: those of messages are None, [] and {}."""
    return value is None or (type(value) in (list, dict) and not value)


def without_mark(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out that this was a hit: it will be one again, or not."""
    return {name: value for name, value in values.items() if name != HIT_MARK}


def _plain_parsed(extra: dict[str, Any]) -> dict[str, Any]:
    """Write what structured output was parsed into as a dict, as LangChain itself does.

    Whoever asked for it makes the object again, by `Schema(**parsed)`.
    """
    parsed = extra.get("parsed")
    if isinstance(parsed, BaseModel):
        for by_alias in (False, True):
            plain = parsed.model_dump(mode="json", by_alias=by_alias)
            try:
                if type(parsed)(**plain) == parsed:
                    return {**extra, "parsed": plain}
            except (ValidationError, TypeError):
                continue
    return extra


def _generation_of(record: Mapping[str, Any], *, bare: bool) -> Generation:
    kind = GENERATIONS[record["type"]]
    info = record.get("generation_info")
    if kind not in _OF_CHAT:
        return kind(text=record["text"], generation_info=info)
    message = _message_of(record["message"], bare=bare)
    text = record.get("text")
    if text is None:
        content = message.content
        text = content if isinstance(content, str) else message.text
    return made(
        kind,
        {
            "message": message,
            "text": text,
            "generation_info": info if bare else {**(info or {}), HIT_MARK: True},
        },
    )


# Asking classes of pydantic whether one is another's takes longer than all the rest of this.
_OF_CHAT = frozenset(kind for kind in GENERATIONS.values() if issubclass(kind, ChatGeneration))
OF_AI = frozenset(kind for kind in MESSAGES.values() if issubclass(kind, AIMessage))


def _message_of(fields: dict[str, Any], *, bare: bool) -> BaseMessage:
    kind = MESSAGES[fields["type"]]
    if not isinstance(fields["content"], str | list):
        raise TypeError("the content of a message is a text or a list")
    for name, make in FACTORIES[kind].items():
        if name not in fields:
            fields[name] = make()
    fields["id"] = None if bare else f"lc_run--{_random_uuid()}"
    fields["additional_kwargs"] = {**fields["additional_kwargs"], HIT_MARK: True}
    if kind in OF_AI:
        fields["usage_metadata"] = dict(NO_TOKENS)
    return made(kind, fields)


def made(kind: type[Made], fields: Mapping[str, Any]) -> Made:
    """Make an object without validation, on the model of a blank one, for that is much faster.

    Validation would drop the extras of tool calls; what is stored was valid when it was made.
    """
    blank, names = _BLANKS[kind]
    if not fields.keys() <= names:
        return cast("Made", blank.model_copy(update=fields))
    made = kind.__new__(kind)
    _set(made, "__dict__", {**vars(blank), **fields})
    _set(made, "__pydantic_extra__", None if blank.__pydantic_extra__ is None else {})
    _set(made, "__pydantic_fields_set__", blank.__pydantic_fields_set__ | fields.keys())
    _set(made, "__pydantic_private__", None)
    return made


_set = object.__setattr__


def _blank(kind: type[BaseModel]) -> BaseModel:
    """Make an object with all fields, for their order shows in LangChain's dumps."""
    fields = kind.model_fields.items()
    return kind.model_construct(**{name: None for name, field in fields if field.is_required()})


_BLANKS: Mapping[type[BaseModel], tuple[BaseModel, frozenset[str]]] = {
    kind: (_blank(kind), frozenset(kind.model_fields))
    for kind in (*MESSAGES.values(), *GENERATIONS.values())
}
"""A blank object of each kind, and the names of its fields."""


def _random_uuid() -> str:
    """Give a random UUID (RFC 9562, version 4) as text, in a third of the time of `uuid4`."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def tokens_of(generations: Iterable[Generation]) -> dict[str, int]:
    """Add up the tokens that were paid for."""
    tokens: dict[str, int] = {}
    for generation in generations:
        usage = getattr(getattr(generation, "message", None), "usage_metadata", None)
        for name in NO_TOKENS if usage else ():
            count = cast("Mapping[str, object]", usage).get(name)
            if isinstance(count, int):
                tokens[name] = tokens.get(name, 0) + count
        details = usage.get("input_token_details") if usage else None
        cached = details.get("cache_read") if isinstance(details, Mapping) else None
        if isinstance(cached, int):
            tokens["cached_tokens"] = tokens.get("cached_tokens", 0) + cached
    return tokens
