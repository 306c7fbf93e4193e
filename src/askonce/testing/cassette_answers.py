r"""An answer as JSON for people: the most readable way of writing it that gives back its bytes.

    {"json": {…}, "style": "indented"}           a body, and how the server writes JSON
    {"events": [{…}, "data: [DONE]\n\n"]}        a stream: the JSON in its events, or their text
    {"float32": [0.25, …]}                       a vector
    {"text": "…"}, {"base64": "…", "codec": 4}   what is none of these

A style that goes without saying is `compact`. In a stream that is `named`, each event has the
type in its JSON for a name.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from askonce.core import codecs
from askonce.errors import InputError
from askonce.wire import Parser

Json = dict[str, Any]

_STYLES: Final[Mapping[str, Json]] = {
    "compact": {"separators": (",", ":"), "ensure_ascii": False},
    "compact ascii": {"separators": (",", ":")},
    "spaced": {"ensure_ascii": False},
    "spaced ascii": {},
    "indented": {"indent": 2, "ensure_ascii": False},
    "indented ascii": {"indent": 2},
}
"""How servers write JSON; the first one goes without saying."""

_VECTORS: Final[Mapping[str, int]] = {
    "float32": codecs.FLOAT32,
    "float64": codecs.FLOAT64,
    "float16": codecs.FLOAT16,
}


def answer_of(codec: int, payload: bytes) -> Json:
    """Write an answer for people, in the first way that keeps its bytes."""
    for answer in _ways(codec, payload):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            if payload_of(answer) == (codec, payload):
                return answer
    return {"codec": codec, "base64": base64.b64encode(payload).decode("ascii")}


def _ways(codec: int, payload: bytes) -> Iterator[Json]:
    if codec == codecs.JSON:
        yield from _ways_of_json(payload)
    elif codec == codecs.EVENTS:
        yield from _ways_of_events(payload)
    for name, vector_codec in _VECTORS.items():
        if codec == vector_codec and codecs.dimensions(len(payload), codec):
            vector = codecs.decode(np.frombuffer(payload, np.uint8), codec)
            yield {name: [float(str(number)) for number in vector]}


def _ways_of_events(payload: bytes) -> Iterator[Json]:
    parser = Parser()
    found = parser.feed(payload) + parser.finish()
    with contextlib.suppress(UnicodeDecodeError):
        raws = [raw.decode() for raw in [*(event.raw for event in found), parser.rest] if raw]
        ways = [
            _way_of_events(raws, style, named=named) for named in (False, True) for style in _STYLES
        ]
        yield max(ways, key=lambda way: sum(isinstance(event, dict) for event in way["events"]))
        yield {"events": raws}


def _way_of_events(raws: list[str], style: str, *, named: bool) -> Json:
    way: Json = {"events": [_event_of(raw, style, named=named) for raw in raws]}
    if style != "compact":
        way["style"] = style
    if named:
        way["named"] = True
    return way


def _event_of(raw: str, style: str, *, named: bool) -> Json | str:
    """Give the JSON that an event carries, or the event as it is where that would lose a bit."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(raw[raw.index("data: ") + 6 :])
        if isinstance(value, dict) and _raw_of(value, style, named=named) == raw:
            return value
    return raw


def _raw_of(event: Json | str, style: str, *, named: bool) -> str:
    """Write an event; the name of one that has a name is the type that its JSON tells."""
    if isinstance(event, str):
        return event
    name = f"event: {event.get('type', '')}\n" if named else ""
    return f"{name}data: {json.dumps(event, **_STYLES[style])}\n\n"


def _ways_of_json(payload: bytes) -> Iterator[Json]:
    with contextlib.suppress(UnicodeDecodeError):
        text = payload.decode()
        ending = text[len(text.rstrip()) :]
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(text)
            for style in _STYLES:
                said = {} if style == "compact" else {"style": style}
                yield {"json": value, **said, **({"ending": ending} if ending else {})}
        yield {"text": text}


def payload_of(answer: Json) -> tuple[int, bytes]:
    """Read codec and payload of an answer. Raises ValueError or TypeError for what is none."""
    style = answer.get("style", "compact")
    if style not in _STYLES:
        raise InputError(f"style is {style!r}; there are {', '.join(_STYLES)}")
    if "json" in answer:
        text = json.dumps(answer["json"], **_STYLES[style]) + answer.get("ending", "")
        return codecs.JSON, text.encode()
    if "text" in answer:
        return codecs.JSON, answer["text"].encode()
    if "events" in answer:
        named = bool(answer.get("named"))
        raws = [_raw_of(event, style, named=named) for event in answer["events"]]
        return codecs.EVENTS, "".join(raws).encode()
    for name, codec in _VECTORS.items():
        if name in answer:
            return codec, np.array(answer[name], codecs.VECTOR_DTYPES[codec]).tobytes()
    if "base64" in answer:
        try:
            return int(answer["codec"]), base64.b64decode(answer["base64"], validate=True)
        except binascii.Error as error:
            raise InputError(f"its base64 is damaged: {error}") from None
    raise InputError("its answer has none of json, text, events, float32 or base64")
