"""The content of Python objects as JSON: what is the same in every process, or nothing.

Equal bytes mean equal content. What JSON has no form for is written with a mark that no text
begins with by itself; an object whose content cannot be known is refused.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import json
import pathlib
import re
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import FunctionType, MethodType
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretBytes, SecretStr

from askonce.integrations.langchain.messages import is_empty
from askonce.integrations.langchain.prompts import HIT_MARK

_MARK = "\0"
SECRETS = (SecretStr, SecretBytes)
_TEXTS = (
    dt.date,
    dt.time,
    dt.timedelta,
    dt.tzinfo,
    decimal.Decimal,
    pathlib.PurePath,
    range,
    complex,
    uuid.UUID,
)
"""Types whose `repr` is all of their content."""

_BYTES = (bytes, bytearray, memoryview)

_AUTO_ID = "lc_"
"""LangChain gives content blocks without an id a random one that starts so."""

_OF_CHUNKS = frozenset({"chunk_position", "tool_call_chunks"})
_TYPES = {
    "AIMessageChunk": "ai",
    "HumanMessageChunk": "human",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "function",
    "ChatMessageChunk": "chat",
}
"""A message says the same whether it came in one piece or was joined."""


class Unstable(Exception):  # noqa: N818  it is an outcome, and never leaves this package
    """Name what has no content that is the same in the next process."""

    def __init__(self, culprit: str) -> None:
        super().__init__(culprit)
        self.culprit = culprit


def canonical(value: object, default: Callable[[Any], object]) -> bytes:
    """Write content as JSON, whatever the order of its names. Raises Unstable."""
    try:
        return _encoder(default).encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Unstable(f"something that is no data ({error})") from None


@functools.lru_cache(maxsize=64)
def _encoder(default: Callable[[Any], object]) -> json.JSONEncoder:
    return json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=default)


def message_fields(message: BaseMessage) -> dict[str, Any]:
    """Give what a message says, without ids, counts of tokens and what a chunk adds."""
    fields = {
        name: value
        for name, value in vars(message).items()
        if name not in _NOT_SAID and not is_empty(value)
    }
    content = message.content
    fields["content"] = content if isinstance(content, str) else _without_auto_ids(content)
    if message.__pydantic_extra__:
        fields |= message.__pydantic_extra__
    fields["type"] = _TYPES.get(message.type, message.type)
    extra = fields.get("additional_kwargs")
    if extra and HIT_MARK in extra:
        rest = {name: value for name, value in extra.items() if name != HIT_MARK}
        fields["additional_kwargs"] = rest
        if not rest:
            del fields["additional_kwargs"]
    return fields


_NOT_SAID = _OF_CHUNKS | {"id", "usage_metadata", "content"}


def _without_auto_ids(blocks: list[Any]) -> list[Any]:
    return [
        {name: part for name, part in block.items() if name != "id"}
        if isinstance(block, dict) and str(block.get("id", "")).startswith(_AUTO_ID)
        else block
        for block in blocks
    ]


def content_of(value: object) -> object:
    """Give the content of one object that JSON has no form for. Raises Unstable."""
    for kinds, give in _FORMS:
        if isinstance(value, kinds):
            return give(value)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return marked(name_of(type(value)), fields)
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return _array_content(value)
    raise Unstable(f"a {name_of(type(value))}")


def marked(kind: str, content: object = None) -> dict[str, object]:
    """Write that this is of a kind that JSON has no form for."""
    return {_MARK + kind: content}


def name_of(kind: Any) -> str:
    """Name a class, or a function of the interpreter's."""
    return f"{kind.__module__}.{kind.__qualname__}"


def fields_of(model: BaseModel) -> dict[str, Any]:
    """Give the settings of a model; those at None are not made."""
    fields = type(model).model_fields
    return {
        name: value
        for name, value in (vars(model) | (model.__pydantic_extra__ or {})).items()
        if value is not None and not (name in fields and fields[name].exclude)
    }


def _array_content(value: Any) -> object:
    """Write numbers of numpy's or alike: the same bytes of another type are other numbers."""
    if getattr(value.dtype, "hasobject", False):
        return marked("array", [str(value.dtype), list(value.shape), value.tolist()])
    digest = hashlib.sha256(value.tobytes()).hexdigest()
    return marked("array", [str(value.dtype), list(value.shape), digest])


@functools.lru_cache(maxsize=256)
def _schema_of(kind: type) -> object:
    """Give what a class asks a model for: its whole JSON schema, or the names of an enum."""
    if issubclass(kind, enum.Enum):
        return {name: member.value for name, member in kind.__members__.items()}
    try:
        if issubclass(kind, BaseModel):
            return kind.model_json_schema()
        if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) or _is_old_model(kind):
            return convert_to_openai_tool(kind)
    except Exception as error:  # noqa: BLE001  a schema is made by the class's own code
        raise Unstable(f"the class {name_of(kind)}, which has no JSON schema ({error})") from None
    if kind.__module__ == "builtins":
        return kind.__name__
    raise Unstable(f"the class {name_of(kind)}")


def _is_old_model(kind: type) -> bool:
    return any(base.__module__.startswith("pydantic.v1.") for base in kind.__mro__)


def tool_content(tool: object) -> object:
    """Give what a model is told of a tool: its name, description and parameters."""
    if isinstance(tool, BaseTool | FunctionType | MethodType):
        try:
            return convert_to_openai_tool(tool)
        except Exception as error:  # noqa: BLE001  likewise
            raise Unstable(f"a tool that has no JSON schema ({error})") from None
    return tool


_FORMS: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (type, lambda value: marked("class", _schema_of(value))),
    (SECRETS, lambda _: marked("secret")),
    (BaseMessage, lambda value: marked("message", message_fields(value))),
    (BaseTool, lambda value: marked("tool", tool_content(value))),
    (BaseModel, lambda value: marked(name_of(type(value)), fields_of(value))),
    (enum.Enum, lambda value: marked(name_of(type(value)), value.name)),
    (_TEXTS, lambda value: marked(name_of(type(value)), repr(value))),
    (_BYTES, lambda value: marked("bytes", hashlib.sha256(value).hexdigest())),
    (re.Pattern, lambda value: marked("pattern", [value.pattern, value.flags])),
    (Mapping, dict),
    (AbstractSet, lambda value: marked("set", _sorted(value))),
    (Sequence, list),
)
"""How each kind of object is written; the first row that fits counts."""


def _sorted(values: AbstractSet[object]) -> list[str]:
    return sorted(canonical(value, content_of).decode() for value in values)
