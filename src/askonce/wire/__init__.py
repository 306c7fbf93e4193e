"""Providers' HTTP formats as pure functions: what a request asks, what an answer says.

A provider is one module, which fulfils `Wire`, and one row of the table here.
"""

import re
from typing import Final

from askonce.wire import (
    anthropic_messages,
    gemini,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from askonce.wire.contract import KEPT_IF_ASKED, SHORTFALLS, Joiner, Shortfall, Usage, Wire
from askonce.wire.json_body import Json, canonical_body, parse_body, write_body
from askonce.wire.sse import Event, Parser

__all__ = [
    "KEPT_IF_ASKED",
    "SHORTFALLS",
    "WIRES",
    "Event",
    "Joiner",
    "Json",
    "Parser",
    "Shortfall",
    "Usage",
    "Wire",
    "canonical_body",
    "is_embeddings",
    "openai_embeddings",
    "parse_body",
    "wire_for",
    "write_body",
]

_TABLE: Final[tuple[tuple[re.Pattern[str], Wire], ...]] = (
    (re.compile(r"/chat/completions\Z"), openai_chat),
    (re.compile(r"(?<!/chat)/completions\Z"), openai_completions),
    (re.compile(r"/responses\Z"), openai_responses),
    (re.compile(r"/v1/messages\Z"), anthropic_messages),
    (re.compile(r"/models/[^/:]+:(?:g|streamG)enerateContent\Z"), gemini),
)

WIRES: Final[dict[str, Wire]] = {wire.NAME: wire for _, wire in _TABLE}
"""Formats of answers by their names."""


def wire_for(method: str, path: str) -> Wire | None:
    """Give the format of the answers to this request, None if it is none of ours.

    `path` may carry a query; only its end counts, so that any prefix may stand before it.
    """
    if method.upper() != "POST":
        return None
    place = path.partition("?")[0]
    found = next((wire for ending, wire in _TABLE if ending.search(place)), None)
    if found is gemini and gemini.wants_stream(path, {}) and not gemini.streams_events(path):
        return None
    return found


def is_embeddings(method: str, path: str) -> bool:
    """Tell whether this request asks for embeddings, in the format of `openai_embeddings`."""
    return method.upper() == "POST" and path.partition("?")[0].endswith("/embeddings")
