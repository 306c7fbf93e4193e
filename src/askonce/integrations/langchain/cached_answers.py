"""Answers of wrapped models as JSON and back: one entry for a whole answer and for a stream.

    {"generations": [as in messages.py], "chunks": [[content, {…}], content, …]}

`chunks` is there if the answer came as a stream: its boundaries are kept. A chunk that differs
from the one before by its content alone is written as that content. What is read is new every
time: without an id, for LangChain gives one that belongs to the run, and without tokens.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)

from askonce.events import Code
from askonce.integrations.langchain import messages
from askonce.integrations.langchain.messages import FACTORIES, NO_TOKENS, OF_AI, Refused, made
from askonce.integrations.langchain.prompts import HIT_MARK

_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))

Chunk = ChatGenerationChunk | GenerationChunk
Tokens = dict[str, int]

CUT_SHORT: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "blocklist": "content_filter",
        "content_filter": "content_filter",
        "incomplete": "unfinished",
        "length": "length",
        "malformed_function_call": "malformed",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "prohibited_content": "content_filter",
        "recitation": "content_filter",
        "safety": "content_filter",
    }
)
_REASONS = ("finish_reason", "stop_reason", "done_reason", "status")


class Finished(Protocol):
    """Be an answer that has come to its end."""

    def payload(self) -> bytes:
        """Write it. Raises Refused if it would not come back as it is."""
        ...

    def tokens(self) -> Tokens:
        """Tell the tokens it took."""
        ...

    def shown(self) -> Generation:
        """Give what it says, for whoever decides whether it is kept."""
        ...


class Whole:
    """Be an answer that came in one piece."""

    def __init__(self, generations: Sequence[Generation]) -> None:
        self._generations = generations

    def payload(self) -> bytes:
        return messages.encode(self._generations)

    def tokens(self) -> Tokens:
        return messages.tokens_of(self._generations)

    def shown(self) -> Generation:
        return self._generations[0]


class Recording:
    """Take the chunks of a stream as they pass, before anybody can change them.

    Recording never raises: what cannot be kept is refused when the stream has ended.
    """

    def __init__(self) -> None:
        self.pieces = 0
        self._refusal = ""
        self._tokens: Tokens = {}
        self._parts: list[str] = []
        self._last = ""
        self._joined: Generation | None = None

    def take(self, chunk: Chunk) -> None:
        """Write down one chunk."""
        self.pieces += 1
        if self._refusal:
            return
        try:
            self._parts.append(self._part_of(chunk))
        except Refused as refused:
            self._refusal = str(refused)
        except (TypeError, ValueError, RecursionError) as error:
            self._refusal = f"the answer is not plain JSON: {error}"

    def payload(self) -> bytes:
        """Write the whole answer, joined and in chunks. Raises Refused."""
        if self._refusal:
            raise Refused(self._refusal)
        if not self._parts:
            raise Refused("the answer is empty")
        whole = messages.encode([self.shown()])
        return b'%s,"chunks":%s}' % (whole[:-1], self._written().encode())

    def tokens(self) -> Tokens:
        return self._tokens

    def shown(self) -> Generation:
        if self._joined is None:
            self._joined = join(chunks_of(json.loads(self._written())))
        return self._joined

    def _written(self) -> str:
        return f"[{','.join(self._parts)}]"

    def _part_of(self, chunk: Chunk) -> str:
        record = messages.record_of(chunk)
        fields = record.get("message", record)
        content = fields.pop("content" if "message" in record else "text")
        usage = getattr(getattr(chunk, "message", None), "usage_metadata", None)
        if usage:
            record["usage"] = True
            self._count(usage)
        rest = _JSON.encode(record)
        written = _JSON.encode(content)
        if json.loads(written) != content:
            raise Refused("the answer would not come back equal from JSON; it holds more than that")
        if rest == self._last and isinstance(content, str):
            return written
        if json.loads(rest) != record:
            raise Refused("the answer would not come back equal from JSON; it holds more than that")
        self._last = rest
        return f"[{written},{rest}]"

    def _count(self, usage: Any) -> None:
        for name in NO_TOKENS:
            count = usage.get(name)
            if isinstance(count, int):
                self._tokens[name] = self._tokens.get(name, 0) + count


def whole_of(payload: bytes) -> list[Generation] | None:
    """Read an answer in one piece, None if this is not any."""
    generations = messages.decode(payload, bare=True)
    for generation in generations or ():
        if not isinstance(generation, ChatGeneration):
            _mark(generation)
    return generations


def chat_of(payload: bytes) -> list[ChatGeneration] | None:
    """Read an answer of a chat model in one piece, None if this is not any."""
    generations = messages.decode(payload, bare=True)
    if generations is None or not all(isinstance(one, ChatGeneration) for one in generations):
        return None
    return cast("list[ChatGeneration]", generations)


def stream_of(payload: bytes) -> list[Chunk] | None:
    """Read an answer as the chunks it came in, as one if it came whole; None if it is not any."""
    try:
        answer = json.loads(payload.decode())
        chunks = answer.get("chunks")
        if chunks is not None:
            made_chunks = chunks_of(chunks)
            _mark(made_chunks[0])
            return made_chunks
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    generations = whole_of(payload)
    return [_one_chunk(generations[0])] if generations else None


def chunks_of(parts: Sequence[Any]) -> list[Chunk]:
    """Make the chunks that a recording holds. Raises KeyError, TypeError if it is damaged."""
    chunks: list[Chunk] = []
    record: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, str):
            content: object = part
        else:
            content, record = part
        chunks.append(_chunk_of(content, record))
    return chunks


def join(chunks: Sequence[Chunk]) -> Generation:
    """Join the chunks of a stream as LangChain does."""
    first, *rest = chunks
    if isinstance(first, ChatGenerationChunk):
        joined = first + cast("list[ChatGenerationChunk]", rest) if rest else first
        message = message_chunk_to_message(joined.message)
        return ChatGeneration(message=message, generation_info=joined.generation_info)
    text: GenerationChunk = first
    for chunk in rest:
        text = text + cast("GenerationChunk", chunk)
    return Generation(text=text.text, generation_info=text.generation_info)


def cut_short(generation: Generation) -> str:
    """Name the reason why a finished answer is not all that the model had to say, "" if it is."""
    told: dict[str, Any] = dict(generation.generation_info or {})
    if isinstance(generation, ChatGeneration):
        told |= generation.message.response_metadata
    for name in _REASONS:
        reason = told.get(name)
        if isinstance(reason, str) and reason.lower() in CUT_SHORT:
            return reason
    return ""


def _chunk_of(content: object, record: dict[str, Any]) -> Chunk:
    info = _copied(record.get("generation_info"))
    if record["type"] == "GenerationChunk":
        return GenerationChunk(text=cast("str", content), generation_info=info)
    fields = {name: _copied(value) for name, value in record["message"].items()}
    kind = messages.MESSAGES[fields["type"]]
    for name, make in FACTORIES[kind].items():
        if name not in fields:
            fields[name] = make()
    fields["content"] = content
    if kind in OF_AI:
        fields["usage_metadata"] = dict(NO_TOKENS) if record.get("usage") else None
    message = made(kind, fields)
    text = record.get("text", message.text)
    return made(ChatGenerationChunk, {"message": message, "text": text, "generation_info": info})


def _copied(value: Any) -> Any:
    """Copy what several chunks of one record would share, and their reader may change."""
    return value.copy() if isinstance(value, dict | list) else value


def _mark(first: Generation) -> None:
    """Tell that this is a hit, in the first of its chunks if there are several."""
    if isinstance(first, ChatGeneration):
        extra = first.message.additional_kwargs
        vars(first.message)["additional_kwargs"] = {**extra, HIT_MARK: True}
    else:
        vars(first)["generation_info"] = {**(first.generation_info or {}), HIT_MARK: True}


def _one_chunk(generation: Generation) -> Chunk:
    if not isinstance(generation, ChatGeneration):
        return GenerationChunk(text=generation.text, generation_info=generation.generation_info)
    message = generation.message
    fields = {name: value for name, value in vars(message).items() if name != "type"}
    calls = [
        tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index
        )
        for index, call in enumerate(fields.pop("tool_calls", ()))
    ]
    broken = [
        tool_call_chunk(
            name=call["name"], args=call["args"], id=call["id"], index=len(calls) + index
        )
        for index, call in enumerate(fields.pop("invalid_tool_calls", ()))
    ]
    chunk = AIMessageChunk(
        **fields,
        **(message.__pydantic_extra__ or {}),
        tool_call_chunks=calls + broken,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=chunk, generation_info=generation.generation_info)
