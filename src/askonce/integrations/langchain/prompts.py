"""What identifies one of LangChain's model calls, out of the two strings its caches are given.

`prompt` is LangChain's dump of the messages, or the bare text for a completion model. `llm_string`
is the model's constructor as JSON, `---`, and the call's own arguments as Python's `repr`; of a
model that cannot be dumped it is one `repr`. What has no effect on the answer is left out of the
key, whatever is not known stays in.
"""

import ast
import contextlib
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from askonce.chat import Question
from askonce.core.keys import Subject, utf8
from askonce.errors import InputTypeError

KIND = "chat"
HIT_MARK = "cache_hit"
"""The name under which a hit is marked, in `additional_kwargs` and `generation_info`."""

IGNORED_OF_MESSAGES = frozenset({"id", "usage_metadata"})
"""Random, or a count of what was paid; neither is sent to a model."""

IGNORED_OF_MODELS = frozenset(
    {
        "cache",
        "callbacks",
        "custom_get_token_ids",
        "default_request_timeout",
        "disable_streaming",
        "max_retries",
        "name",
        "rate_limiter",
        "request_timeout",
        "stream_usage",
        "streaming",
        "tags",
        "timeout",
        "verbose",
    }
)
"""Constructor arguments that decide how an answer travels and who is told, not what it is."""

IGNORED_OF_CALLS = frozenset({"max_retries", "request_timeout", "stream_usage", "timeout"})

Message = dict[str, Any]
_OF_DUMPS = frozenset({"lc", "type", "id", "kwargs"})
_TEXTS = frozenset({str, bool, type(None)})
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_SEPARATOR = "---"
_LONGEST_LITERAL = 200_000
_LONGEST_REMEMBERED = 32_000
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_CLASS = re.compile(r"<(?:class|enum) '[^']*'>")
_BARE_CLASS = re.compile(r"<(?:class|enum) ''>")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")
_BEFORE_A_VALUE = re.compile(r"[\[({,:=] ?")
MODEL_NAMES = ("model_name", "model", "model_id", "deployment_name", "_type")


@dataclass(frozen=True, slots=True)
class Unidentified:
    """Say what in a call's parameters has no stable content, so that it has no key."""

    cause: str
    model: str

    @property
    def reason(self) -> str:
        """Explain the refusal, and what to do about it."""
        if _CLASS.fullmatch(self.cause):
            return (
                f"this call is not cached: its parameters name {self.cause}, but do not hold what "
                "is in that class, so that after a change of the class an old answer would come "
                "back. Pass a JSON schema instead, for example "
                "model.with_structured_output(Schema.model_json_schema())"
            )
        return (
            f"this call is not cached: its parameters hold {self.cause}, an object that is known "
            "by its address in memory alone, which means something else in the next process. "
            "Pass plain data (strings, numbers, lists, dicts) instead of the object"
        )


def identify(prompt: str, llm_string: str, namespace: str) -> Question | Unidentified:
    """Name the question that a prompt asks of a model."""
    if len(prompt) + len(llm_string) > _LONGEST_REMEMBERED:
        return _identify(prompt, llm_string, namespace)
    return _remembered(prompt, llm_string, namespace)


def _identify(prompt: str, llm_string: str, namespace: str) -> Question | Unidentified:
    subject = subject_of(llm_string, namespace)
    if isinstance(subject, Unidentified):
        return subject
    # Completion models, whose prompts are texts, never have a constructor in front.
    return Question.of(subject, content(prompt, is_chat=llm_string.startswith("{")))


_remembered = functools.lru_cache(maxsize=256)(_identify)
"""Each answer that is saved was looked up just before, and some prompts come again and again."""


def content(prompt: str, *, is_chat: bool = False) -> bytes:
    """Write what a prompt asks: its messages without what is ignored, or the text as it is.

    `is_chat` promises that a dump of messages is one, and not a text that looks like it.
    """
    messages = _dumped(prompt) if is_chat else None
    plain = _plain(messages)
    if plain is None:
        messages = _messages(prompt, is_chat=is_chat)
        plain = _plain(messages)
    if plain is not None:
        return plain  # It begins with a bracket, which nothing else here does.
    if messages is None:
        return b"text:" + utf8(prompt)
    return b"".join([b"messages:", *map(_written, messages)])


def _dumped(prompt: str) -> list[Message] | None:
    """Read a dump in a third of the time; long numbers in it come out as others."""
    try:
        return _essential_of(orjson.loads(prompt))
    except orjson.JSONDecodeError:
        return None


def _plain(messages: list[Message] | None) -> bytes | None:
    """Write messages that hold nothing but texts, None for others."""
    if messages is None or not all(map(_is_plain, messages)):
        return None
    try:
        return orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # There are lone surrogates in it.
        return None


def _is_plain(message: Message) -> bool:
    identifier = message.get("id")
    return (
        message.keys() == _OF_DUMPS
        and type(identifier) is list
        and _TEXTS.issuperset(map(type, identifier))
        and _TEXTS.issuperset(map(type, message["kwargs"].values()))
    )


def _messages(prompt: str, *, is_chat: bool) -> list[Message] | None:
    """Read a dump of messages, None if this is a text of its own, like other JSON."""
    if not prompt.startswith('[{"lc": 1, '):
        return None
    try:
        values = json.loads(prompt)
        # Text that only resembles a dump, say by its spaces, must keep every character.
        if not is_chat and json.dumps(values) != prompt:
            return None
    except (ValueError, RecursionError):
        return None
    return _essential_of(values)


def _essential_of(values: Any) -> list[Message] | None:
    """Leave out of messages what is ignored; None if these are not messages."""
    for value in values if isinstance(values, list) else (None,):
        if not isinstance(value, dict) or value.get("type") != "constructor":
            return None
        arguments = value.get("kwargs")
        if not isinstance(arguments, dict):
            return None
        for name in IGNORED_OF_MESSAGES:
            arguments.pop(name, None)
        extra = arguments.get("additional_kwargs")
        if isinstance(extra, dict):
            if extra.get(HIT_MARK) is True:
                del extra[HIT_MARK]
            if not extra:
                del arguments["additional_kwargs"]
    return cast("list[Message]", values)


def _written(message: Message) -> bytes:
    text = _CANONICAL.encode(message).encode()
    return b"%d:%s" % (len(text), text)


@functools.lru_cache(maxsize=256)
def subject_of(llm_string: str, namespace: str) -> Subject | Unidentified:
    """Name the model and parameters that an `llm_string` stands for."""
    constructor, rest = _take_apart(llm_string)
    call = _pairs(rest)
    model = _model_name(constructor, call)
    cause = _unstable_in(constructor) or (None if call is not None else _unstable(rest))
    if cause is not None:
        return Unidentified(cause, model)
    if constructor and call is not None:
        parameters = {"constructor": _essential(constructor), "call": _without_ignored(call)}
        subject = Subject(namespace, KIND, model, parameters)
        with contextlib.suppress(InputTypeError, RecursionError):
            subject.digest()
            return subject
    return Subject(namespace, KIND, model, {"llm": llm_string})


def _take_apart(llm_string: str) -> tuple[dict[str, Any], str]:
    """Split a constructor from the arguments of the call; it is empty if there is none."""
    if llm_string.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            constructor, end = json.JSONDecoder().raw_decode(llm_string)
            if llm_string.startswith(_SEPARATOR, end):
                return constructor, llm_string[end + len(_SEPARATOR) :]
    return {}, llm_string


def _pairs(text: str) -> list[tuple[str, object]] | None:
    """Read the `repr` of a list of names and plain values."""
    if len(text) > _LONGEST_LITERAL or not text.startswith("["):
        return None
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    pairs = cast("list[object]", value)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            return None
    return cast("list[tuple[str, object]]", pairs)


def _essential(constructor: Mapping[str, Any]) -> dict[str, object]:
    """Leave out of a constructor what is ignored, and the names of secrets.

    The outermost `name` is the runnable's; the class is named by `id`.
    """
    kept = {name: value for name, value in constructor.items() if name != "name"}
    arguments = kept.get("kwargs")
    if isinstance(arguments, dict):
        kept["kwargs"] = {
            name: value
            for name, value in arguments.items()
            if name not in IGNORED_OF_MODELS and not _is_secret(value)
        }
    return kept


def _is_secret(value: object) -> bool:
    return isinstance(value, dict) and value.get("lc") == 1 and value.get("type") == "secret"


def _without_ignored(call: list[tuple[str, object]]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in call if name not in IGNORED_OF_CALLS]


def _model_name(constructor: Mapping[str, Any], call: list[tuple[str, object]] | None) -> str:
    arguments = constructor.get("kwargs")
    values = {**(arguments if isinstance(arguments, dict) else {}), **dict(call or ())}
    for name in MODEL_NAMES:
        value = values.get(name)
        if isinstance(value, str) and value:
            return value
    match constructor.get("id"):
        case [*_, str(last)]:
            return last
        case _:
            return ""


def _unstable_in(value: object) -> str | None:
    """Find an unstable `repr` among what LangChain could not dump."""
    match value:
        case {"lc": 1, "type": "not_implemented", "repr": str(text)}:
            return _unstable(text)
        case dict():
            return next(filter(None, map(_unstable_in, value.values())), None)
        case list():
            return next(filter(None, map(_unstable_in, value)), None)
        case _:
            return None


def _unstable(text: str) -> str | None:
    """Find the `repr` of a class or of an address, outside of quoted strings."""
    bare = _STRING.sub("''", text)
    if _BARE_CLASS.search(bare) and (found := _CLASS.search(text)):
        return found[0]
    if found := _ADDRESS.search(bare):
        start = bare[max(0, found.start() - 200) : found.start()]
        return f"{_BEFORE_A_VALUE.split(start)[-1]} at 0x…>"
    return None
