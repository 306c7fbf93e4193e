"""What nodes of a graph write, as JSON and back, through fixed tables of types.

Numbers, texts and lists are themselves; everything else is an object with one name, its kind.
Nothing is imported by name: of other classes only those come back that the caller has named.
"""

import base64
import binascii
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import re
import uuid
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Overwrite, Send
from pydantic import BaseModel

from askonce.errors import InputError, InputTypeError
from askonce.integrations.langchain.messages import MESSAGES, Refused

Known = Mapping[str, type[Any]]
"""The caller's classes by their names."""

_MESSAGES: Mapping[str, type[BaseMessage]] = {**MESSAGES, "remove": RemoveMessage}
_TEXTS: Mapping[type[Any], tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    uuid.UUID: ("uuid", str, uuid.UUID),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    bytes: (
        "bytes",
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
}
_FROM_TEXT = {kind: read for kind, _, read in _TEXTS.values()}
_SERIES: Mapping[type[Any], str] = {
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
}
_FROM_SERIES = {name: kind for kind, name in _SERIES.items()}
_PLAIN = frozenset({type(None), bool, int, str})
_NUMBERS = "biufcmM"
"""The kinds of numpy's numbers, which hold no objects."""

_RANDOM = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
    r"|^(lc_|run-|chatcmpl-|msg_|resp_|gen-)"
)


def is_random(identifier: object) -> bool:
    """Tell whether an id of a message was drawn, by LangChain, LangGraph or a provider."""
    return isinstance(identifier, str) and _RANDOM.search(identifier) is not None


def known_types(types: Iterable[type[Any]]) -> Known:
    """Check which classes may come back: pydantic models, dataclasses and enums.

    Raises InputTypeError for others, InputError for two of one name.
    """
    known: dict[str, type[Any]] = {}
    for kind in types:
        fits = isinstance(kind, type) and (
            issubclass(kind, BaseModel | enum.Enum) or dataclasses.is_dataclass(kind)
        )
        if not fits:
            raise InputTypeError(f"{kind!r} is not a pydantic model, a dataclass or an enum")
        if known.setdefault(kind.__qualname__, kind) is not kind:
            raise InputError(f"two of the types are named {kind.__qualname__!r}")
    return known


class Writer:
    """Write values as JSON; afterwards `identifiers` are those of the messages among them.

    `removes` tells whether a message is to be removed by its id.
    """

    def __init__(self, known: Known) -> None:
        self.identifiers: set[str] = set()
        self.removes = False
        self._known = known

    def write(self, value: object) -> bytes:
        """Write one value. Raises Refused, which says what to do, for what cannot come back."""
        try:
            plain = self.plain(value)
        except RecursionError:
            raise Refused("the node writes something that holds itself") from None
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()

    def plain(self, value: Any) -> object:
        """Give one value as it is written."""
        kind: type[Any] = type(value)
        if kind in _PLAIN:
            return value
        if kind in _WRITERS:
            return _WRITERS[kind](self, value)
        if kind in _SERIES:
            return {_SERIES[kind]: [self.plain(part) for part in value]}
        if kind in _TEXTS:
            name, text, _ = _TEXTS[kind]
            return {name: text(value)}
        if isinstance(value, BaseMessage) and _MESSAGES.get(value.type) is kind:
            return self._message(value)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMBERS:
            return _array(value)
        if self._known.get(kind.__qualname__) is kind:
            return self._of_the_caller(value, kind)
        raise Refused(
            f"the node writes a {kind.__module__}.{kind.__qualname__}, which is not read back "
            "without leave, as that would run its code. Name the class in NodeCache(..., "
            f"types=[{kind.__name__}]) if it is a pydantic model, a dataclass or an enum, or let "
            "the node write plain data"
        )

    def fields(self, fields: Mapping[str, Any]) -> dict[str, object]:
        """Give the fields of an object as they are written."""
        return {name: self.plain(value) for name, value in fields.items()}

    def _message(self, message: BaseMessage) -> object:
        if message.id is not None:
            self.identifiers.add(message.id)
        self.removes |= isinstance(message, RemoveMessage) and message.id != REMOVE_ALL_MESSAGES
        return {"message": self.fields(vars(message) | (message.__pydantic_extra__ or {}))}

    def _of_the_caller(self, value: Any, kind: type[Any]) -> object:
        if isinstance(value, enum.Enum):
            return {"enum": [kind.__qualname__, value.name]}
        if isinstance(value, BaseModel):
            fields = vars(value) | (value.__pydantic_extra__ or {})
            return {"model": [kind.__qualname__, self.fields(fields)]}
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: getattr(value, name) for name in names}
        return {"dataclass": [kind.__qualname__, self.fields(fields)]}


def _float(_: Writer, value: float) -> object:
    return value if math.isfinite(value) else {"float": repr(value)}


def _moment(value: Any) -> list[object]:
    """Write a time as a clock shows it, which of two alike hours it is in, and its zone."""
    zone = value.tzinfo
    if isinstance(zone, dt.timezone):
        where: object = zone.utcoffset(None).total_seconds()
    elif isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        where = zone.key
    elif zone is None:
        where = None
    else:
        raise Refused(f"the node writes a time in a zone that only {zone!r} knows")
    return [value.replace(tzinfo=None).isoformat(), value.fold, where]


def _send(writer: Writer, value: Any) -> object:
    if getattr(value, "timeout", None) is not None:
        raise Refused("the node sends a task with a timeout, which is not kept")
    return {"send": [value.node, writer.plain(value.arg)]}


def _array(value: Any) -> object:
    array = np.asarray(value)
    content = base64.b64encode(array.tobytes()).decode()
    name = "array" if isinstance(value, np.ndarray) else "number"
    return {name: [array.dtype.str, list(array.shape), content]}


_WRITERS: Mapping[type[Any], Callable[[Writer, Any], object]] = {
    float: _float,
    list: lambda writer, value: [writer.plain(part) for part in value],
    dict: lambda writer, value: {
        "dict": [[writer.plain(name), writer.plain(part)] for name, part in value.items()]
    },
    dt.datetime: lambda _, value: {"datetime": _moment(value)},
    dt.time: lambda _, value: {"time": _moment(value)},
    dt.timedelta: lambda _, value: {"timedelta": [value.days, value.seconds, value.microseconds]},
    Document: lambda writer, value: {"document": writer.fields(vars(value))},
    Overwrite: lambda writer, value: {"overwrite": writer.plain(value.value)},
    Send: _send,
}


class Reader:
    """Read values; with `fresh` the random ids of messages are drawn anew."""

    def __init__(self, known: Known, *, fresh: bool) -> None:
        self._known = known
        self._fresh = fresh
        self._drawn: dict[str, str] = {}

    def read(self, value: object) -> Any:
        """Read one value.

        Raises ValueError, LookupError or TypeError if it is none of ours, or of classes that are
        not known or have changed.
        """
        if isinstance(value, list):
            return [self.read(part) for part in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind in _FROM_TEXT:
            return _FROM_TEXT[kind](content)
        if kind in _FROM_SERIES:
            return _FROM_SERIES[kind](map(self.read, content))
        return _READERS[kind](self, content)

    def dictionary(self, content: Any) -> dict[Any, Any]:
        """Read a dict, whatever its keys."""
        return {self.read(name): self.read(part) for name, part in content}

    def message(self, content: Any) -> BaseMessage:
        """Read a message."""
        fields = self._fields(content)
        identifier = fields.get("id")
        if self._fresh and isinstance(identifier, str) and is_random(identifier):
            fields["id"] = self._drawn.setdefault(identifier, str(uuid.uuid4()))
        return cast("BaseMessage", _constructed(_MESSAGES[fields["type"]], fields))

    def document(self, content: Any) -> Document:
        """Read a document."""
        return cast("Document", _constructed(Document, self._fields(content)))

    def array(self, content: Any) -> Any:
        """Read an array of numbers."""
        dtype, shape, text = content
        made = np.dtype(dtype)
        if made.kind not in _NUMBERS:
            raise ValueError("not an array of numbers")
        return np.frombuffer(base64.b64decode(text, validate=True), made).reshape(shape).copy()

    def model(self, content: Any) -> BaseModel:
        """Read a pydantic model of the caller's."""
        name, fields = content
        kind = self._known[name]
        allows_more = kind.model_config.get("extra") == "allow"
        if not kind.model_fields.keys() <= fields.keys() or (
            not allows_more and fields.keys() - kind.model_fields.keys()
        ):
            raise ValueError(f"{name} has other fields now")
        return _constructed(kind, self._fields(fields))

    def dataclass(self, content: Any) -> Any:
        """Read a dataclass of the caller's; its `__init__` is not called."""
        name, fields = content
        kind = self._known[name]
        if {field.name for field in dataclasses.fields(kind)} != fields.keys():
            raise ValueError(f"{name} has other fields now")
        made = object.__new__(kind)
        for field, value in self._fields(fields).items():
            object.__setattr__(made, field, value)
        return made

    def member(self, content: Any) -> Any:
        """Read a member of an enum of the caller's."""
        name, member = content
        kind: Any = self._known[name]
        return kind[member]

    def _fields(self, fields: Mapping[str, object]) -> dict[str, Any]:
        return {name: self.read(value) for name, value in fields.items()}


def _read_moment(kind: Any, content: Any) -> Any:
    clock, fold, where = content
    zone: dt.tzinfo | None = None
    if isinstance(where, str):
        zone = zoneinfo.ZoneInfo(where)
    elif where is not None:
        zone = dt.timezone(dt.timedelta(seconds=where))
    return kind.fromisoformat(clock).replace(tzinfo=zone, fold=fold)


def _constructed(kind: type[BaseModel], fields: Mapping[str, Any]) -> BaseModel:
    """Make an object without validation: what was written was valid."""
    return kind.model_construct(**fields)


_READERS: Mapping[str, Callable[[Reader, Any], Any]] = {
    "array": Reader.array,
    "dataclass": Reader.dataclass,
    "datetime": lambda _, content: _read_moment(dt.datetime, content),
    "dict": Reader.dictionary,
    "document": Reader.document,
    "enum": Reader.member,
    "float": lambda _, content: float(content),
    "message": Reader.message,
    "model": Reader.model,
    "number": lambda reader, content: reader.array(content)[()],
    "overwrite": lambda reader, content: Overwrite(reader.read(content)),
    "send": lambda reader, content: Send(content[0], reader.read(content[1])),
    "time": lambda _, content: _read_moment(dt.time, content),
    "timedelta": lambda _, content: dt.timedelta(*content),
}

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, binascii.Error)
"""What reading raises for an entry that is none of ours."""
