"""A kept answer: what the provider sent, and how it is sent again in either presentation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from askonce.core import codecs, entry
from askonce.wire import Event, Parser, Usage, Wire, parse_body, write_body

Form = Literal["body", "events"]
_CODECS: Final[Mapping[Form, int]] = {"body": codecs.JSON, "events": codecs.EVENTS}
_FORMS: Final[Mapping[int, Form]] = {codec: form for form, codec in _CODECS.items()}

KEPT_HEADERS: Final = (
    "request-id",
    "x-request-id",
    "openai-version",
    "access-control-allow-origin",
    "access-control-expose-headers",
)
"""Of a response's headers these are kept; no cookie, no credential, no account is."""

_USAGE: Final = ("model", "input", "output", "cached", "written")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold one answer as the provider sent it: a body, or the bytes of a stream of events.

    `with_usage` tells whether its usage was asked for, `seconds` how long the provider took,
    `tags` names each tag with the epoch in which the answer was asked for.
    """

    form: Form
    content: bytes
    created: float
    expires: float
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    usage: Usage | None = None
    with_usage: bool = False
    seconds: float = 0.0

    def pack(self, binding: int) -> bytes:
        """Write the answer as an entry."""
        meta: dict[str, Any] = {"headers": dict(self.headers), "seconds": round(self.seconds, 4)}
        if self.tags:
            meta["tags"] = dict(self.tags)
        if self.with_usage:
            meta["with_usage"] = True
        if self.usage is not None:
            meta["usage"] = {name: getattr(self.usage, name) for name in _USAGE}
        codec = _CODECS[self.form]
        return entry.pack(
            entry.Entry(self.content, codec, self.created, self.expires, binding, meta)
        )

    @classmethod
    def unpack(cls, blob: bytes | None, binding: int) -> "Answer | None":
        """Read an answer, None if it is damaged or another question's."""
        found = entry.unpack(blob) if blob else None
        if found is None or found.binding != binding or found.codec not in _FORMS:
            return None
        meta: Mapping[str, Any] = found.meta
        try:
            usage = meta.get("usage")
            return cls(
                _FORMS[found.codec],
                found.payload,
                found.created,
                found.expires,
                dict(meta.get("headers", {})),
                dict(meta.get("tags", {})),
                Usage(*(usage[name] for name in _USAGE)) if usage else None,
                bool(meta.get("with_usage", False)),
                float(meta.get("seconds", 0.0)),
            )
        except (TypeError, ValueError, KeyError, AttributeError):
            # Metadata as another version may write it: an answer that is not understood is none.
            return None

    def body(self, wire: Wire) -> bytes:
        """Give the answer as a plain body. Raises AnswerError if a stream cannot be joined."""
        if self.form == "body":
            return self.content
        joiner = wire.joiner()
        for event in _events(self.content):
            joiner.feed(event)
        return write_body(joiner.response())

    def events(self, wire: Wire, *, usage: bool) -> list[bytes]:
        """Give the answer as the chunks of a stream, with its usage or without.

        Raises AnswerError or InputError for an answer that cannot be given so.
        """
        if self.form == "body":
            return [event.raw for event in wire.split(parse_body(self.content), usage=usage)]
        events = _events(self.content)
        if self.with_usage and not usage:
            events = wire.without_usage(events)
        return [event.raw for event in events]


def _events(content: bytes) -> list[Event]:
    parser = Parser()
    return parser.feed(content) + parser.finish()
