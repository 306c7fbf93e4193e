"""What every provider's format answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

from askonce.errors import AnswerError, InputError
from askonce.wire import sse
from askonce.wire.json_body import Json, parse_body

Shortfall = Literal["error", "malformed", "unfinished", "length", "content_filter", "refusal"]

SHORTFALLS: Final[Mapping[Shortfall, str]] = MappingProxyType(
    {
        "error": "the provider answered with an error",
        "malformed": "the answer does not have the shape that the format gives it",
        "unfinished": "the provider did not say that the answer is finished",
        "length": "the answer was cut at the greatest length allowed",
        "content_filter": "the provider's filter withheld the answer or part of it",
        "refusal": "the model declined to answer",
    }
)
"""Why a finished answer may not be kept: a stable code for each reason, and the reason."""

KEPT_IF_ASKED: Final[frozenset[Shortfall]] = frozenset({"length", "content_filter", "refusal"})
"""Shortfalls that another try may well repeat; a policy may keep such answers, never others."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tell the tokens an answer cost.

    `input` counts all input tokens; `cached` and `written` tell how many of them were read from
    and written to the provider's prompt cache, None where it does not say.
    """

    model: str
    input: int
    output: int
    cached: int | None = None
    written: int | None = None


class Joiner(ABC):
    """Take the events of one stream and give the answer that a plain request would have got.

    `complete` tells that the provider's own end mark was seen, `failed` why the stream can never
    be joined: an error in it, or data that is damaged or contradicts itself.
    """

    def __init__(self) -> None:
        self.complete = False
        self.failed: str | None = None

    def feed(self, event: sse.Event) -> None:
        """Take the next event; those after the end mark or a failure are passed over."""
        if event.data is None or self.complete or self.failed is not None:
            return
        try:
            if event.data.startswith(b"[DONE]"):
                self._done()
            else:
                self._take(event.name, parse_body(event.data))
        except (InputError, AnswerError) as error:
            self.failed = str(error)

    def response(self) -> Json:
        """Give the answer. Raises AnswerError unless the stream is complete."""
        if self.failed is None and self.complete:
            return self._response()
        raise AnswerError(self.failed or "the stream ended before the provider's end mark")

    def _done(self) -> None:  # noqa: B027
        """Take the end mark `[DONE]`, which most formats do not have."""

    @abstractmethod
    def _take(self, name: str, body: Json) -> None:
        """Take one event's name and data. Raises AnswerError for what cannot be joined."""

    @abstractmethod
    def _response(self) -> Json:
        """Give the joined answer of a complete stream."""


class Wire(Protocol):
    """Know one provider's format for answers.

    The provider's module is the wire: these are its functions. A path may carry a query.
    """

    NAME: str
    """The format's name, part of every identity."""

    IGNORED: Mapping[str, str]
    """The body's fields that do not decide an answer, each with the reason."""

    def refusal(self, body: Json) -> str | None:
        """Tell why the answer to this request may not be cached, None if it may."""
        ...

    def identity(self, path: str, body: Json) -> Json:
        """Give what decides the answer: format, path and the body less what is ignored."""
        ...

    def model(self, path: str, body: Json) -> str:
        """Give the model that is asked for, "" if the request does not tell."""
        ...

    def wants_stream(self, path: str, body: Json) -> bool:
        """Tell whether the answer is to come as events."""
        ...

    def wants_usage(self, body: Json) -> bool:
        """Tell whether a stream of this answer is to carry its usage."""
        ...

    def shortfall(self, response: Json) -> Shortfall | None:
        """Tell why this answer may not be kept, None if it may."""
        ...

    def joiner(self) -> Joiner:
        """Start joining one stream."""
        ...

    def split(self, response: Json, *, usage: bool) -> list[sse.Event]:
        """Give an answer that may be kept as a stream that the provider could have sent.

        `usage` tells whether the request wants the usage; where the answer has none, none is
        made up.
        """
        ...

    def without_usage(self, events: Sequence[sse.Event]) -> list[sse.Event]:
        """Give a stream that was asked for with usage as it would be without.

        Only for a request that does not want what the recorded one did; all other events keep
        their bytes.
        """
        ...

    def usage(self, response: Json) -> Usage | None:
        """Give what the answer cost, None if it does not say."""
        ...
