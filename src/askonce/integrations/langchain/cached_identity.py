"""What identifies a call of a wrapped model: its settings and arguments of this moment.

All settings count but those listed here: what is not known stays in, so that a new field of a
model makes a new key and never an old answer. Settings at None are not made.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from askonce.chat import Question
from askonce.core.keys import Subject
from askonce.integrations.langchain.cached_content import (
    SECRETS,
    Unstable,
    canonical,
    content_of,
    marked,
    message_fields,
    name_of,
    tool_content,
)
from askonce.integrations.langchain.prompts import (
    IGNORED_OF_CALLS,
    IGNORED_OF_MODELS,
    KIND,
    MODEL_NAMES,
)

Model = BaseLanguageModel[Any]

FIELD = "askonce_answers"
"""The field that a wrapped model has besides its own."""

_IGNORED_FIELDS = IGNORED_OF_MODELS | {
    FIELD,
    "async_client",
    "client",
    "http_async_client",
    "http_client",
    "i",  # LangChain's own fakes count their calls in it.
    "root_async_client",
    "root_client",
    "sleep",
}
_IGNORED_ARGUMENTS = IGNORED_OF_CALLS | {
    "ls_structured_output_format",
    "run_manager",
    "stream",
    "stream_options",
    "structured_output_format",
}
_HEADERS = frozenset({"additional_headers", "default_headers", "extra_headers", "headers"})
_CREDENTIALS = frozenset(
    {"api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-goog-api-key"}
)
_SECRET_ENDINGS = ("api_key", "api_token", "access_token", "password", "secret")
_TOOLS = frozenset({"functions", "tools"})


@dataclass(frozen=True, slots=True)
class Unidentified:
    """Say what of a call has no stable content, so that it has no key."""

    where: str
    culprit: str
    model: str

    @property
    def reason(self) -> str:
        """Explain the refusal, and what to do about it."""
        return (
            f"this call is not cached: {self.where} holds {self.culprit}, whose content is not "
            "known to be the same in the next process. Pass plain data (strings, numbers, lists, "
            "dicts) or a JSON schema instead; if it does not decide the answer, name it in "
            "cached(..., ignore=[...])"
        )


def identify_chat(
    model: Model, messages: Sequence[BaseMessage], arguments: Mapping[str, Any], terms: "Scope"
) -> Question | Unidentified:
    """Name the question that these messages ask of a model."""
    return _identify(model, [message_fields(message) for message in messages], arguments, terms)


def identify_text(
    model: Model, prompt: str, arguments: Mapping[str, Any], terms: "Scope"
) -> Question | Unidentified:
    """Name the question that a prompt asks of a completion model."""
    return _identify(model, prompt, arguments, terms)


@dataclass(frozen=True, slots=True)
class Scope:
    """Hold what divides questions that are otherwise the same, and what does not decide them."""

    namespace: str = ""
    sample: int = 0
    ignored: frozenset[str] = frozenset()


def _identify(
    model: Model, asked: object, arguments: Mapping[str, Any], scope: Scope
) -> Question | Unidentified:
    name = _model_name(model, arguments)
    settings = _settings(model, scope.ignored)
    try:
        content = canonical([asked, settings, _decisive(arguments, scope.ignored)], content_of)
    except Unstable as unstable:
        return Unidentified(_culprit(settings, arguments, scope), unstable.culprit, name)
    return Question.of(_subject(scope, name, type(model)), content)


def _culprit(settings: Mapping[str, object], arguments: Mapping[str, Any], scope: Scope) -> str:
    """Find out which part of a call has no stable content."""
    for name, value in settings.items():
        if not _has_content(value):
            return f"its setting {name!r}"
    for name, value in arguments.items():
        try:
            stable = _has_content(_decisive({name: value}, scope.ignored))
        except Unstable:
            stable = False
        if not stable:
            return f"its argument {name!r}"
    return "the prompt"


def _has_content(value: object) -> bool:
    try:
        canonical(value, content_of)
    except Unstable:
        return False
    return True


@functools.lru_cache(maxsize=256)
def _subject(scope: Scope, name: str, kind: type[Any]) -> Subject:
    parameters = {"class": name_of(kind), "sample": scope.sample}
    return Subject(scope.namespace, KIND, name, parameters)


def _decisive(arguments: Mapping[str, Any], ignored: frozenset[str]) -> dict[str, object]:
    """Give the arguments that decide an answer. Raises Unstable."""
    decisive: dict[str, object] = {}
    for name, value in arguments.items():
        if value is None or name in _IGNORED_ARGUMENTS or name in ignored:
            continue
        if name in _TOOLS and isinstance(value, list | tuple):
            decisive[name] = list(map(tool_content, value))
        else:
            decisive[name] = _without_credentials(name, value)
    return decisive


def _settings(model: Model, ignored: frozenset[str]) -> dict[str, object]:
    """Give the settings that decide an answer, as they are now."""
    settings: dict[str, object] = {}
    values = vars(model)
    secrets = model.lc_secrets
    names: Sequence[str] = _field_names(type(model))
    if model.__pydantic_extra__:
        values = values | model.__pydantic_extra__
        names = [*names, *model.__pydantic_extra__]
    for name in names:
        value = values.get(name)
        if value is None or name in secrets or name in ignored:
            continue
        if type(value) in _PLAIN:
            settings[name] = value
        elif not isinstance(value, SECRETS) and not isinstance(value, Iterator):
            # What is consumed by the calls themselves is no setting of theirs.
            settings[name] = _without_credentials(name, _nested(value))
    address = getattr(values.get("root_client"), "base_url", None)
    if address is not None:
        # OpenAI's own client may have taken it from the environment.
        settings["\0base_url"] = str(address)
    return settings


_PLAIN = frozenset({str, int, float, bool})


@functools.lru_cache(maxsize=256)
def _field_names(kind: type[BaseModel]) -> tuple[str, ...]:
    return tuple(
        name
        for name, field in kind.model_fields.items()
        if name not in _IGNORED_FIELDS and not field.exclude and not name.endswith(_SECRET_ENDINGS)
    )


def _nested(value: object) -> object:
    """Look into a model inside a model as into the outer one."""
    return content_of_model(value) if isinstance(value, BaseLanguageModel) else value


def content_of_model(model: Model) -> object:
    """Give the settings of a model that decide its answers. Raises Unstable."""
    return marked(name_of(type(model)), _settings(model, frozenset()))


def _without_credentials(name: str, value: object) -> object:
    if name in _HEADERS and isinstance(value, Mapping):
        return {
            header: content
            for header, content in value.items()
            if str(header).lower() not in _CREDENTIALS
        }
    return value


def _model_name(model: Model, arguments: Mapping[str, Any]) -> str:
    values = vars(model)
    for name in MODEL_NAMES:
        value = arguments.get(name) or values.get(name)
        if isinstance(value, str) and value:
            return value
    return type(model).__name__
