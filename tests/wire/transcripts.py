"""Transcripts: what servers answered.

Names tell where they come from. `written_…` were written by hand, in the shapes that the SDKs'
types give, each with the answer that it must join to; `failed_…` likewise, but are streams of
which nothing may be kept. All others were recorded from a real server by `record.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from askonce import wire

FOLDER = Path(__file__).parent / "transcripts"

WIRES = {
    "openai_chat": wire.WIRES["openai.chat"],
    "openai_completions": wire.WIRES["openai.completions"],
    "openai_responses": wire.WIRES["openai.responses"],
    "anthropic_messages": wire.WIRES["anthropic.messages"],
    "gemini": wire.WIRES["gemini"],
}


@dataclass(frozen=True)
class Transcript:
    """Hold one recorded answer."""

    place: Path

    def __str__(self):
        return f"{self.place.parent.name}/{self.place.stem}"

    @property
    def wire(self):
        return WIRES[self.place.parent.name]

    @property
    def content(self):
        return self.place.read_bytes()

    def beside(self, ending):
        """Read the file of JSON beside this one."""
        return json.loads(self.place.with_name(self.place.stem + ending).read_text("utf-8"))


def _found(pattern):
    places = sorted(place for folder in WIRES for place in (FOLDER / folder).glob(pattern))
    return [Transcript(place) for place in places]


STREAMS = _found("*.sse")
FAILED = [stream for stream in STREAMS if stream.place.stem.startswith("failed_")]
WHOLE = [stream for stream in STREAMS if stream not in FAILED]
WRITTEN = [stream for stream in WHOLE if stream.place.stem.startswith("written_")]
RECORDED = [stream for stream in WHOLE if stream not in WRITTEN]
BODIES = [
    body
    for body in _found("*.json")
    if not body.place.name.endswith((".request.json", ".joined.json"))
    and body.place.stem != "error"
]


def join(answers, events):
    """Join events; fail if they are not a whole answer."""
    joiner = answers.joiner()
    for event in events:
        joiner.feed(event)
    assert joiner.failed is None
    assert joiner.complete
    return joiner.response()


def joined(stream):
    """Join a whole transcript."""
    return join(stream.wire, wire.sse.parse(stream.content))


def answers_of(folder=None):
    """Give every transcript's answer, joined or plain, with its wire."""
    found = [(stream, joined(stream)) for stream in WHOLE]
    found += [(body, json.loads(body.content)) for body in BODIES]
    return [pair for pair in found if folder in (None, pair[0].place.parent.name)]
