"""What a cassette is as text: JSON for people to read, review and edit.

    {"request": {"method": "POST", "url": …, "headers": {…}, "body": {…}},
     "answer": {"json": …},
     "meta": {"usage": {…}, …}}

There is no key, no checksum and no date in it: the key is made from the request when the file is
read, so whoever edits either part is taken at their word.
"""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from askonce.core import entry
from askonce.core.keys import Subject, utf8
from askonce.errors import AskonceError, InputError
from askonce.http.exchange import Rules
from askonce.http.explaining import explain, read_request, request_of
from askonce.testing.cassette_answers import Json, answer_of, payload_of
from askonce.wire import canonical_body

_WIDTH = 100
_RULES = Rules()
_NOTATION = re.compile(r"^(text|messages):(t\d+:)?|m\d+:\{.*", re.DOTALL)
"""What stands around a prompt in the identity of one of LangChain's calls."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Hold one cassette, read."""

    key: str
    request: Json
    answer: Json
    meta: Json

    @property
    def status(self) -> int:
        """Tell the status of the answer: 200, unless an error was recorded."""
        return int(self.answer.get("status", 200))

    def pack(self, key: str, *, now: float) -> bytes:
        """Write the answer as the entry of a key; a cassette never expires."""
        if (raw := self.answer.get("raw")) is not None:
            return base64.b64decode(raw)
        codec, payload = payload_of(self.answer)
        return entry.pack(
            entry.Entry(payload, codec, now, entry.NEVER, self._binding(key), self.meta)
        )

    def _binding(self, key: str) -> int:
        if "binding" in self.request:
            return int(self.request["binding"], 16)
        return entry.binding_of(bytes.fromhex(key.rpartition("/")[2]))


def read(text: str) -> Recorded:
    """Read a cassette. Raises InputError for what is none."""
    try:
        whole = json.loads(text)
        recorded = Recorded(
            key_of(whole["request"]), whole["request"], whole["answer"], whole.get("meta", {})
        )
        if "raw" not in recorded.answer:
            payload_of(recorded.answer)
    except AskonceError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"it cannot be read: {error!r}") from None
    return recorded


def write(recorded: Recorded) -> bytes:
    """Write a cassette as text in UTF-8."""
    answer = dict(recorded.answer)
    if "events" in answer:
        answer["events"] = [
            _Line(event) if isinstance(event, dict) else event for event in answer["events"]
        ]
    whole: Json = {"request": recorded.request, "answer": answer}
    if recorded.meta:
        whole["meta"] = recorded.meta
    try:
        return f"{_pretty(whole, '', ascii=False)}\n".encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is no UTF-8; JSON has an escape for it.
        return f"{_pretty(whole, '', ascii=True)}\n".encode()


def key_of(request: Json) -> str:
    """Make the key of a request that a cassette tells. Raises InputError or KeyError."""
    if "url" in request:
        explanation = explain(*read_request(request), _RULES)
        if explanation.refusal:
            raise InputError(f"its request is not cached: {explanation.refusal}")
        return " ".join(explanation.keys)
    if "key" in request:
        return str(request["key"])
    subject = Subject(
        request.get("namespace", ""), request["kind"], request["model"], request["parameters"]
    )
    text = request.get("text")
    content = canonical_body(request["content"]) if text is None else utf8(text)
    (key,) = subject.keys(subject.digests([content]))
    return key


def identify(key: str, subject: Subject | None, content: bytes) -> Json:
    """Tell the request that a key stands for; its subject and content are known if witnessed."""
    if subject is None:
        return {"key": key}
    request = request_of(subject, content)
    if request is not None and (_is_key(key, request) or "credential" in subject.parameters):
        return request
    request = {"namespace": subject.namespace} if subject.namespace else {}
    request |= {"kind": subject.kind, "model": subject.model}
    with contextlib.suppress(ValueError, TypeError):
        request["parameters"] = json.loads(json.dumps(subject.parameters))
        value = json.loads(content)
        if canonical_body(value) == content and _is_key(key, {**request, "content": value}):
            return {**request, "content": value}
    with contextlib.suppress(UnicodeDecodeError):
        request["text"] = content.decode("utf-8", "surrogatepass")
        if _is_key(key, request):
            return request
    return {"key": key}


def _is_key(key: str, request: Json) -> bool:
    try:
        return key_of(request) == key
    except (AskonceError, KeyError):
        return False


def record(request: Json, blob: bytes) -> Recorded:
    """Make the cassette of an entry."""
    found = entry.unpack(blob)
    if found is None:
        return Recorded(
            key_of(request), request, {"raw": base64.b64encode(blob).decode("ascii")}, {}
        )
    meta: Json = {
        name: found.meta[name] for name in sorted(found.meta) if found.meta[name] and name != "tags"
    }
    if "key" in request:
        request = {**request, "binding": f"{found.binding:x}"}
    return Recorded(key_of(request), request, answer_of(found.codec, found.payload), meta)


def name_of(recorded: Recorded) -> str:
    """Name the file of a cassette: what its request said last, and what tells it apart."""
    request = recorded.request
    said = _last_text(
        request.get("body")
        or request.get("content")
        or _said(request.get("text", ""))
        or request.get("key")
    )
    words = re.sub(r"[^a-z0-9]+", "-", said[:200].lower())
    digest = hashlib.sha256(utf8(recorded.key)).hexdigest()[:12]
    return f"{words.strip('-')[:40].strip('-') or 'cassette'}-{digest}.json"


def _said(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return _NOTATION.sub("", text)


def _last_text(value: object) -> str:
    """Find what was said last: of a body that is in its messages, its prompt or its input."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next(filter(None, map(_last_text, reversed(value))), "")
    if isinstance(value, dict):
        for name in (
            *("messages", "contents", "input", "prompt", "parts", "content", "text"),
            "kwargs",  # of a message as LangChain writes it
        ):
            if found := _last_text(value.get(name)):
                return found
    return ""


class _Line(Json):
    """Be an object that is written in one line."""


def _pretty(value: object, margin: str, *, ascii: bool) -> str:  # noqa: A002
    """Write JSON a field a line, but numbers many to a line."""
    deeper = margin + "  "
    match value:
        case _Line():
            return json.dumps(value, ensure_ascii=ascii)
        case dict() if value:
            names = [f"{deeper}{json.dumps(name, ensure_ascii=ascii)}: " for name in value]
            values = [_pretty(one, deeper, ascii=ascii) for one in value.values()]
            lines = [name + one for name, one in zip(names, values, strict=True)]
            opening, closing = "{", "}"
        case [int() | float(), *_] if all(isinstance(one, int | float) for one in value):
            lines = list(_filled([json.dumps(one) for one in value], deeper))
            opening, closing = "[", "]"
        case list() if value:
            lines = [deeper + _pretty(one, deeper, ascii=ascii) for one in value]
            opening, closing = "[", "]"
        case _:
            return json.dumps(value, ensure_ascii=ascii)
    return opening + "\n" + ",\n".join(lines) + "\n" + margin + closing


def _filled(words: list[str], margin: str) -> Iterator[str]:
    line = margin
    for word in words:
        if len(line) + len(word) > _WIDTH and line != margin:
            yield line.rstrip().removesuffix(",")
            line = margin
        line += word + ", "
    yield line.rstrip().removesuffix(",")
