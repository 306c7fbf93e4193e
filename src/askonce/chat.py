"""Chat answers that are asked for once: the flows of looking one up and of saving it.

Whoever looks up and finds nothing leads a flight until it saves an answer; the others wait for
that flight. A leader that fails saves nothing, so those who wait watch whether it is still there.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from askonce.core import codecs, entry, policy
from askonce.core.flight import Flight, Flights
from askonce.core.flow import Call, Read, Step, Tell, Wait, Write, now
from askonce.core.keys import Subject
from askonce.events import Code, Event, Kind

DEFAULT_WAIT = 60.0
_FIRST_LOOK = 0.01
_LOOK_EVERY = 0.05
_PATIENCE = 2
"""So many leaders may fail one after the other before all who wait ask for themselves."""

NOT_SHARED = b""
"""What a flight brings when there is an answer that cannot be stored."""

NOTHING_KNOWN: Mapping[str, object] = {}

Packed = tuple[bytes, float]
"""An entry, and when it expires."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Question:
    """Hold what identifies one chat call: its key, and what binds an entry to it."""

    key: str
    binding: int
    namespace: str
    model: str

    @classmethod
    def of(cls, subject: Subject, content: bytes) -> "Question":
        """Name the question that asks this content of this subject."""
        (digest,) = subject.digests((content,))
        (key,) = subject.keys((digest,))
        return cls(key, entry.binding_of(digest), subject.namespace, subject.model)

    def pack(
        self, payload: bytes, meta: Mapping[str, object], *, now: float, ttl: float | None
    ) -> Packed:
        """Write an answer (JSON) as an entry."""
        expires = policy.expires_at(ttl, now=now)
        whole = entry.Entry(payload, codecs.JSON, now, expires, self.binding, meta)
        return entry.pack(whole), expires

    def unpack(self, blob: bytes | None, *, now: float) -> bytes | None:
        """Read the payload of an entry, None if it is damaged, expired or another question's."""
        found = entry.unpack(blob, with_meta=False) if blob else None
        if (
            found is None
            or found.codec != codecs.JSON
            or found.binding != self.binding
            or not policy.is_fresh(found.expires, now=now)
        ):
            return None
        return found.payload


class Leaders(Protocol):
    """Know who leads the flights, for callers who cannot promise to land them."""

    def may_lead(self) -> bool:
        """Tell whether the caller can be watched while it asks."""
        ...

    def lead(self, flights: Flights, flight: Flight) -> None:
        """Remember that the caller leads this flight from now on."""
        ...

    def may_wait(self) -> bool:
        """Tell whether the caller may wait for others: never while others may wait for it."""
        ...

    def is_gone(self, flight: Flight) -> bool:
        """Tell whether the leader of this flight will not land it any more."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """Hold what a lookup needs to know besides its question."""

    flights: Flights
    leaders: Leaders
    now: float
    wait: float = DEFAULT_WAIT


Decode = Callable[[bytes], Answer | None]

Meta = Mapping[str, object]
"""What an entry tells of its answer: `tokens`, a mapping, and the `seconds` the model took."""


def event_of(
    kind: Kind, question: Question, meta: Meta, *, reason: str = "", code: Code = ""
) -> Event:
    """Tell of a question, and what its answer cost or would have."""
    tokens, seconds = meta.get("tokens"), meta.get("seconds")
    counts: Mapping[str, object] = tokens if isinstance(tokens, Mapping) else {}
    asked, said, cached = map(counts.get, ("input_tokens", "output_tokens", "cached_tokens"))
    return Event(
        kind,
        1,
        question.namespace,
        question.model,
        seconds if isinstance(seconds, float) else 0.0,
        reason,
        input_tokens=asked if isinstance(asked, int) else None,
        output_tokens=said if isinstance(said, int) else None,
        cached_tokens=cached if isinstance(cached, int) else None,
        code=code,
    )


def lookup_flow(
    question: Question,
    terms: Terms,
    decode: Decode[Answer],
    elsewhere: object = None,
) -> Generator[Step, Any, Answer | None]:
    """Look an answer up, wait for whoever is asking for it, or lead: then None is the outcome.

    What the store does not have is called for with `elsewhere`, if given: the outcome is a
    Packed, which is then stored, or None. A miss is told when it is known what it cost: by
    `save_flow` and `refuse_flow`.
    """
    (blob,) = yield Read((question.key,))
    answer = _open(blob, question, terms, decode)
    if answer is None and elsewhere is not None:
        packed: Packed | None = yield Call(elsewhere)
        if packed is not None:
            blob = packed[0]
            answer = _open(blob, question, terms, decode)
            yield Write({question.key: blob}, packed[1])
    if answer is None:
        blob, answer = yield from _join(question, terms, decode)
    if answer is not None and blob is not None:
        yield Tell(event_of("hit", question, entry.meta_of(blob)))
    return answer


def save_flow(question: Question, packed: Packed, flights: Flights) -> Generator[Step, Any, None]:
    """Store an answer and hand it to all who wait for it."""
    blob, expires = packed
    try:
        stored = yield Write({question.key: blob}, expires)
    finally:
        _land(question, blob, flights)
    yield Tell(event_of("miss", question, entry.meta_of(blob)))
    if stored:
        yield Tell(event_of("stored", question, {}))


def refuse_flow(
    question: Question,
    code: Code,
    reason: str,
    flights: Flights,
    meta: Meta = NOTHING_KNOWN,
) -> Generator[Step, Any, None]:
    """Tell why an answer is not stored, and let those who wait for it ask for themselves."""
    _land(question, NOT_SHARED, flights)
    yield Tell(event_of("miss", question, meta))
    yield Tell(event_of("refused", question, {}, reason=reason, code=code))


def seconds_since_lookup(question: Question, flights: Flights) -> float:
    """Tell how long ago the caller found nothing, 0 if nobody kept the time."""
    return max((now() - flight.began for flight in flights.under_way((question.key,))), default=0.0)


def _open(
    blob: bytes | None, question: Question, terms: Terms, decode: Decode[Answer]
) -> Answer | None:
    payload = question.unpack(blob, now=terms.now)
    return None if payload is None else decode(payload)


def _join(
    question: Question, terms: Terms, decode: Decode[Answer]
) -> Generator[Step, Any, tuple[bytes | None, Answer | None]]:
    """Lead a flight for the question, or wait for the one under way as long as it is led."""
    keys = (question.key,)
    patience = _PATIENCE
    left = terms.wait
    while patience and left > 0:
        for flight in terms.flights.under_way(keys):
            if not terms.leaders.may_wait():
                return None, None
            brought, left = yield from _await(flight, left, terms)
            blob = brought.get(question.key)
            if blob == NOT_SHARED:
                return None, None
            answer = _open(blob, question, terms, decode)
            if answer is not None:
                return blob, answer
            patience -= 1
            break
        else:
            if not terms.leaders.may_lead():
                return None, None
            flight_of_mine = terms.flights.claim(keys)
            if flight_of_mine is not None:
                return (yield from _lead(flight_of_mine, question, terms, decode))
    return None, None


def _lead(
    flight: Flight, question: Question, terms: Terms, decode: Decode[Answer]
) -> Generator[Step, Any, tuple[bytes | None, Answer | None]]:
    """Look once more, for the flight before this may just have landed; else stay in the lead."""
    brought: dict[str, bytes] | None = {}
    try:
        (blob,) = yield Read((question.key,))
        answer = _open(blob, question, terms, decode)
        if answer is not None and blob is not None:
            brought = {question.key: blob}
        else:
            flight.began = now()
            terms.leaders.lead(terms.flights, flight)
            brought = None
        return blob, answer
    finally:
        if brought is not None:
            terms.flights.land(flight, brought)


def _await(
    flight: Flight, seconds: float, terms: Terms
) -> Generator[Step, Any, tuple[Mapping[str, bytes], float]]:
    """Wait for a flight while it is led; give what it brought and the seconds left."""
    pause = _FIRST_LOOK
    while seconds > 0:
        landed = yield Wait(flight, pause)
        if landed is not None:
            return landed, seconds
        seconds -= pause
        if terms.leaders.is_gone(flight):
            terms.flights.land(flight, {})
            return {}, seconds
        pause = min(2 * pause, _LOOK_EVERY)
    return {}, 0.0


def _land(question: Question, blob: bytes, flights: Flights) -> None:
    for flight in flights.under_way((question.key,)):
        flights.land(flight, {question.key: blob})
