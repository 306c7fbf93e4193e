"""Why a provider did not answer: read from its status, its words and its headers."""

import email.utils
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from askonce.errors import AnswerError


class InputRefusedError(AnswerError):
    """Say that a provider will not embed one text; `index` is its place in the caller's list."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"the text at index {index} was refused: {reason}")
        self.index = index
        self.reason = reason

    def __reduce__(self) -> tuple[type["InputRefusedError"], tuple[int, str]]:
        return type(self), (self.index, self.reason)


class InputTooLongError(InputRefusedError):
    """Say that a text is longer than the model takes; `index` is its place in the list."""


Kind = Literal["long", "many", "format", "input"]

_SAYS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("format", re.compile(r"encoding_format|base64|format to return", re.IGNORECASE)),
    (
        "many",
        re.compile(
            r"batch size (is invalid|\d+ >)|array too long|array_above_max_length"
            r"|too many inputs|requests can be in one batch|batch length",
            re.IGNORECASE,
        ),
    ),
    (
        "long",
        re.compile(
            r"context[ _](length|size|window)|maximum (input|sequence) length"
            r"|(input|prompt|text|sequence|request|payload|entity)\b.{0,40}\btoo (large|long)"
            r"|tokens?_per_request|tokens? per (request|submitted batch)|too many tokens"
            r"|less than \d+ tokens|exceeding max \d+ tokens|length limit exceeded",
            re.IGNORECASE,
        ),
    ),
    (
        "input",
        re.compile(r"\binputs?\b.{0,60}\b(empty|invalid|blank)\b|'\$?\.?input\b", re.IGNORECASE),
    ),
)
"""Patterns of the messages of OpenAI, Azure, Mistral, Voyage, vLLM, TEI, Ollama and llama.cpp."""

_PLACE = re.compile(r"\binput(?:s?\[| id | at index )(\d+)", re.IGNORECASE)

_ABOUT_THE_REQUEST = frozenset({400, 413, 422, 500})
"""llama.cpp and older Ollama say 500 for a text that is too long."""

_WORDY = ("message", "error", "detail", "msg", "code", "type", "param")

_TRANSIENT = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500
_TOO_LARGE = 413
_SPENT = "insufficient_quota"


@dataclass(frozen=True)
class Refusal:
    """Tell what a provider objects to, and the index of the input in the request if it says so.

    "long": an input, or all of them together; "many": the number of inputs; "format": how the
    numbers were asked for; "input": something else about an input.
    """

    kind: Kind
    place: int | None


def read_refusal(error: BaseException) -> Refusal | None:
    """Find out what about a request a provider objects to; None if it is something else."""
    status = _status(error)
    if status not in _ABOUT_THE_REQUEST:
        return None
    words = words_of(error)
    place = _PLACE.search(words)
    for kind, pattern in _SAYS:
        if pattern.search(words) and (status < _SERVER_ERROR or kind == "long"):
            return Refusal(kind, int(place[1]) if place else None)
    if status == _TOO_LARGE:
        return Refusal("long", None)
    return Refusal("input", int(place[1])) if place and status < _SERVER_ERROR else None


def is_transient(error: BaseException) -> bool:
    """Tell whether an answer with an error status may be another one a moment later."""
    status = _status(error)
    if status is None or read_refusal(error) is not None or getattr(error, "code", "") == _SPENT:
        return False
    return status in _TRANSIENT or status >= _SERVER_ERROR


def retry_after(error: BaseException, *, now: float) -> float | None:
    """Read how many seconds a provider asks to wait; None if it does not (RFC 9110, 10.2.3)."""
    response = getattr(error, "response", None)
    headers = cast("Mapping[str, str]", getattr(response, "headers", None) or {})
    for name, per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / per_second
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        moment = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(moment.timestamp() - now, 0.0)


def words_of(error: BaseException) -> str:
    """Give what a provider said, without what it repeats of the request."""
    body: object = getattr(error, "body", None)
    if isinstance(body, str) and body:
        return body
    if isinstance(body, Mapping):
        fields = cast("Mapping[str, object]", body)
        said = [str(fields[name]) for name in _WORDY if isinstance(fields.get(name), str | int)]
        details = fields.get("detail")
        for detail in cast("list[object]", details) if isinstance(details, list) else []:
            if isinstance(detail, Mapping):
                part = cast("Mapping[str, object]", detail)
                said.append(f"{part.get('loc')}: {part.get('msg')}")
        if said:
            return " ".join(said)
    return str(error)


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None
