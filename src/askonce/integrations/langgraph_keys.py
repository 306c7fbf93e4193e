"""Keys of nodes: what a node is and what it is given, without the random ids of messages."""

import dis
import functools
import sys
import threading
import types
import uuid
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel
from xxhash import xxh3_128_hexdigest

from askonce.core import fork, keys
from askonce.integrations.langchain.cached_content import (
    Unstable,
    canonical,
    content_of,
    fields_of,
    marked,
    name_of,
)
from askonce.integrations.langchain.cached_identity import content_of_model
from askonce.integrations.langchain.messages import is_empty
from askonce.integrations.langgraph_values import is_random

_REMEMBERED = 4096
_frame = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class NodeKey:
    """Be a `key_func` of LangGraph's: `CachePolicy(key_func=node_key)`.

    The key is made of the node's input, and of its code, with its defaults and what it closes
    over: texts and numbers as they are now, what can be changed as it was when the node was first
    asked for. `named` gives a key function for a node that cannot be known this way.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._warned: set[str] = set()

    def named(self, name: str) -> "NodeKey":
        """Give a key function that takes the node for what this name says: choose it well."""
        return NodeKey(name)

    def __call__(self, *arguments: Any, **named: Any) -> str:
        node = _asked_for(_frame(1)) if self._name is None else self._name
        try:
            content = canonical([_content_of_node(node), arguments, named], _content)
        except Unstable as unstable:
            self._warn(unstable.culprit)
            key = f"uncached:{uuid.uuid4()}"
            asked.remember(key, None)
            return key
        key = keys.digest({"node": content}).hex()
        asked.remember(key, _random_ids([arguments, named]))
        return key

    def _warn(self, culprit: str) -> None:
        if culprit not in self._warned:
            self._warned.add(culprit)
            warnings.warn(
                f"a node is not cached: it is given, or closes over, {culprit}, whose content is "
                "not known to be the same in the next process. Give it plain data; or, if what it "
                "closes over does not matter or never changes, name the node: "
                "CachePolicy(key_func=node_key.named('its name and version'))",
                UserWarning,
                stacklevel=3,
            )


node_key = NodeKey()


class Asked:
    """Remember for some time which keys were made here, by LangGraph's own digest of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._keys: OrderedDict[str, frozenset[str] | None] = OrderedDict()

    def remember(self, key: str, identifiers: frozenset[str] | None) -> None:
        """Remember the random ids of the messages that a node is given; None: not to be cached."""
        digest = xxh3_128_hexdigest(key.encode())
        with self._lock:
            before = self._keys.pop(digest, None)
            if identifiers is not None and before:
                identifiers |= before
            self._keys[digest] = identifiers
            if len(self._keys) > _REMEMBERED:
                self._keys.popitem(last=False)

    def identifiers(self, digest: str) -> frozenset[str] | None:
        """Give the random ids of a key made here, None if it was not."""
        with self._lock:
            return self._keys.get(digest)

    def is_refused(self, digest: str) -> bool:
        """Tell whether a key was made here of something that is not to be cached."""
        with self._lock:
            return self._keys.get(digest, frozenset()) is None


asked = Asked()


def _asked_for(caller: FrameType | None) -> object:
    """Find out which node LangGraph asks for: it tells a key function nothing but the input."""
    names: Mapping[str, Any] = caller.f_locals if caller is not None else {}
    if "proc" in names:
        return getattr(names["proc"], "bound", None)
    return getattr(names.get("call"), "func", None)


def _content_of_node(node: object) -> object:
    return node if node is None or isinstance(node, str) else marked("node", _content(node))


def _content(value: Any) -> object:
    """Give the content of an object that may be, or hold, functions and messages."""
    for kinds, give in _FORMS:
        if isinstance(value, kinds):
            return give(value)
    if hasattr(value, "tools_by_name"):
        return marked(name_of(type(value)), value.tools_by_name)
    if isinstance(value, Runnable) and not isinstance(value, BaseModel):
        parts = {name: getattr(value, name) for name in _OF_RUNNABLES if hasattr(value, name)}
        if parts:
            return marked(name_of(type(value)), parts)
    return content_of(value)


_OF_RUNNABLES = ("func", "afunc", "steps")
"""Where LangChain's and LangGraph's own runnables have what they run."""


def _message_content(message: BaseMessage) -> dict[str, object]:
    fields = {name: value for name, value in vars(message).items() if not is_empty(value)}
    if is_random(message.id):
        del fields["id"]
    return marked("message", fields | (message.__pydantic_extra__ or {}))


def _class_content(value: type) -> object:
    return content_of(value) if issubclass(value, BaseModel) else marked("class", name_of(value))


_FORMS: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (BaseMessage, _message_content),
    (BaseLanguageModel, content_of_model),
    (functools.partial, lambda value: marked("partial", [value.func, value.args, value.keywords])),
    (FunctionType, lambda value: marked("function", _function_content(value))),
    (MethodType, lambda value: marked("method", [value.__func__, value.__self__])),
    (BuiltinFunctionType, lambda value: marked("builtin", name_of(value))),
    (BaseTool, lambda value: marked(name_of(type(value)), fields_of(value))),
    (type, _class_content),
)


_NOW = (str, int, float, bool, bytes, types.NoneType, tuple, frozenset)
_first_seen: "weakref.WeakKeyDictionary[FunctionType, bytes]" = weakref.WeakKeyDictionary()


def _function_content(function: FunctionType) -> list[object]:
    """Give what a function is: of what it closes over, what can be changed counts as first seen.

    A function may well change that itself, to count its calls or to remember something.
    """
    own = _rebound(function.__code__)
    now: dict[str, object] = {}
    then: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # It has no value yet.
            continue
        if value is not function:
            (now if isinstance(value, _NOW) and name not in own else then)[name] = value
    seen = _first_seen.get(function)
    if seen is None:
        code = _code_content(function.__code__)
        settled = [code, function.__defaults__, function.__kwdefaults__, then]
        seen = _first_seen.setdefault(function, keys.digest({"x": canonical(settled, _content)}))
    return [f"{function.__module__}.{function.__qualname__}", seen.hex(), now]


@functools.lru_cache(maxsize=1024)
def _rebound(code: CodeType) -> frozenset[str]:
    """Name what a function closes over and gives new values itself."""
    return frozenset(
        step.argval
        for step in dis.get_instructions(code)
        if step.opname == "STORE_DEREF" and step.argval in code.co_freevars
    )


def _code_content(code: CodeType) -> list[object]:
    # Line numbers and the file are left out: a comment changes them.
    constants = [
        _code_content(value) if isinstance(value, CodeType) else _constant(value)
        for value in code.co_consts
    ]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _constant(value: object) -> object:
    if isinstance(value, tuple):
        return marked("tuple", list(map(_constant, value)))
    return marked("...") if value is ... else value


def _random_ids(value: object, found: set[str] | None = None, depth: int = 12) -> frozenset[str]:
    """Collect the random ids of the messages in an input."""
    found = set() if found is None else found
    if isinstance(value, BaseMessage):
        if is_random(value.id):
            found.add(str(value.id))
    elif depth:
        parts: Any = ()
        if isinstance(value, Mapping):
            parts = value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            parts = value
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            parts = vars(value).values()
        for part in parts:
            _random_ids(part, found, depth - 1)
    return frozenset(found)
