"""Server-sent events: bytes to events and back, with every byte accounted for.

The grammar is that of the HTML standard, section 9.2.6. The raw bytes of all events of a stream,
followed by what the parser has left, are the stream itself.
"""

import re
from dataclasses import dataclass

from askonce.errors import InputError

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one block of a stream, up to and with its blank line.

    `data` is None where a block has none, such as a comment that keeps a connection alive: clients
    never see it, yet its `raw` bytes are part of the stream. Data stays bytes: whether it is good
    UTF-8 is for the reader of the JSON in it to say.
    """

    data: bytes | None
    name: str = ""
    id: str | None = None
    retry: int | None = None
    comments: tuple[str, ...] = ()
    raw: bytes = b""

    @classmethod
    def of(cls, data: bytes, name: str = "") -> "Event":
        """Make an event to send, with its raw bytes."""
        return cls(data, name, raw=write(data, name))


def write(data: bytes, name: str = "", *, id: str | None = None, retry: int | None = None) -> bytes:  # noqa: A002
    """Write one event. Raises InputError for what the format cannot carry."""
    lines: list[bytes] = []
    if b"\r" in data:
        raise InputError("the data of an event holds a carriage return, which ends a line there")
    for field, text in (("event", name), ("id", id)):
        if text:
            if "\r" in text or "\n" in text or "\0" in text:
                raise InputError(f"the {field} of an event is not one line: {text!r}")
            lines.append(f"{field}: {text}".encode())
    if retry is not None:
        lines.append(b"retry: %d" % retry)
    lines += [b"data: " + line for line in data.split(b"\n")]
    return b"\n".join(lines) + b"\n\n"


class Parser:
    """Take a stream in any pieces and give its events, the same ones however it is cut.

    A carriage return at the end of what arrived waits for the next byte, or for `finish`: a line
    feed would belong to it.
    """

    def __init__(self) -> None:
        self._held = b""
        self._line: list[bytes] = []
        self._lines: list[bytes] = []
        self._raw: list[bytes] = []
        self._at_start = True

    @property
    def rest(self) -> bytes:
        """Give the bytes that belong to no event yet."""
        return b"".join([*self._raw, *self._line, self._held])

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and give the events that they complete."""
        chunk = self._held + chunk
        self._held = b""
        if chunk.endswith(b"\r"):
            chunk, self._held = chunk[:-1], b"\r"
        if not (self._raw or self._line) and _is_plain(chunk):
            self._at_start = False
            return [Event(chunk[6:-2], raw=chunk)]
        return self._take(chunk)

    def finish(self) -> list[Event]:
        """Take the end of the stream.

        A block without its blank line is no event, as the standard has it: it may have been cut.
        It stays in `rest`.
        """
        chunk, self._held = self._held, b""
        return self._take(chunk)

    def _take(self, chunk: bytes) -> list[Event]:
        events: list[Event] = []
        start = 0
        for match in _LINE_END.finditer(chunk):
            self._line.append(chunk[start : match.start()])
            start = match.end()
            line = b"".join(self._line)
            self._line = []
            self._raw += (line, match.group())
            if self._at_start:
                line = line.removeprefix(_BOM)
                self._at_start = False
            if line:
                self._lines.append(line)
            else:
                events.append(_event_of(self._lines, b"".join(self._raw)))
                self._lines, self._raw = [], []
        if start < len(chunk):
            self._line.append(chunk[start:])
        return events


def _is_plain(chunk: bytes) -> bool:
    """Tell whether this is one event that is one line of data, as most chunks of most streams."""
    return (
        chunk.startswith(b"data: ")
        and chunk.endswith(b"\n\n")
        and chunk.count(b"\n") == 2
        and b"\r" not in chunk
    )


def _event_of(lines: list[bytes], raw: bytes) -> Event:
    data: list[bytes] = []
    comments: list[str] = []
    name, identifier, retry = "", None, None
    for line in lines:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
        elif not field:
            comments.append(value.decode(errors="replace"))
        elif field == b"id" and b"\0" not in value:
            identifier = value.decode(errors="replace")
        elif field == b"retry" and value.isdigit():
            retry = int(value)
    joined = b"\n".join(data) if data else None
    return Event(joined, name, identifier, retry, tuple(comments), raw)


def parse(stream: bytes) -> list[Event]:
    """Give the events of a whole stream."""
    parser = Parser()
    return parser.feed(stream) + parser.finish()
