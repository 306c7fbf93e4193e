"""Leads: who finds no answer promises to ask, and then to save or to let go.

Because of that promise threads, tasks and, where a store has leases, processes wait for one
another. A leader may take its time (a stream is read by its caller): the lead outlives the flow
that gave it.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from askonce.chat import NOT_SHARED, NOTHING_KNOWN, Meta, Packed, Question, event_of
from askonce.core import entry
from askonce.core.flight import Flight, Flights
from askonce.core.flow import Claim, Pause, Read, Release, Step, Tell, Wait, Write, now
from askonce.events import Code

_LEADERS = 3
"""So many leaders may give up one after the other before all who wait ask for themselves."""

_LOOK_EVERY = 0.25
_HELD_FOR = 4
"""So many looks a follower waits for a leader whose caller does not read on."""

_FIRST_POLL = 0.01
_LAST_POLL = 0.1

Answer = TypeVar("Answer")
Open = Callable[[bytes | None], Answer | None]
"""Read an entry as an answer that may be given."""

Found = tuple[Answer, bytes]
"""An answer, and its entry."""


@dataclass(frozen=True, slots=True)
class Lead:
    """Be the duty to ask; without a flight nobody waits, and nothing of it is due but the asking.

    `leased` tells whether other processes wait, too; `began` is in seconds since 1970.
    """

    question: Question
    flight: Flight | None = None
    leased: bool = False
    began: float = field(default_factory=now, compare=False)

    def hold(self, pieces: int) -> None:
        """Note that the caller holds the piece of this number, 0 that we are at work again."""
        if self.flight is not None:
            self.flight.held = pieces


def find_flow(
    question: Question,
    open_entry: Open[Answer],
    flights: Flights,
    *,
    wait: float,
    patient: bool = True,
) -> Generator[Step, Any, Answer | Lead]:
    """Look an answer up, wait up to `wait` seconds for whoever asks for it, else lead.

    Who leads already must not wait: if not `patient`, a lead without a flight is given where
    others ask, for the caller to come back. A miss is told when it is known what it cost: at the
    end of the lead.
    """
    (blob,) = yield Read((question.key,))
    found: Found[Answer] | None = _opened(blob, open_entry)
    if found is None:
        if not patient and flights.under_way((question.key,)):
            return Lead(question)
        outcome = yield from _join(question, open_entry, flights, wait, patient=patient)
        if isinstance(outcome, Lead):
            return outcome
        found = outcome
    answer, blob = found
    yield Tell(event_of("hit", question, entry.meta_of(blob)))
    return answer


def _opened(blob: bytes | None, open_entry: Open[Answer]) -> Found[Answer] | None:
    answer = open_entry(blob)
    return None if answer is None or blob is None else (answer, blob)


def _join(
    question: Question, open_entry: Open[Answer], flights: Flights, left: float, *, patient: bool
) -> Generator[Step, Any, Found[Answer] | Lead]:
    keys = (question.key,)
    leaders = _LEADERS
    while leaders:
        flight = flights.claim(keys)
        if flight is not None:
            wait = left if patient else 0.0
            return (yield from _lead(flight, question, open_entry, flights, wait))
        if left <= 0:
            break
        for other in flights.under_way(keys):
            blob, left = yield from follow_flow(other, question, left)
            if blob == NOT_SHARED:
                return Lead(question)
            found = _opened(blob, open_entry)
            if found is not None:
                return found
            leaders -= 1
    return Lead(question)


def follow_flow(
    flight: Flight, question: Question, left: float
) -> Generator[Step, Any, tuple[bytes | None, float]]:
    """Wait for a flight; give what it brought, NOT_SHARED for waiting in vain, and the time left.

    A leader whose caller does not read on may be waiting for us in turn.
    """
    seen = looks = 0
    while left > 0 and looks < _HELD_FOR:
        pause = min(left, _LOOK_EVERY)
        landed = yield Wait(flight, pause)
        if landed is not None:
            return landed.get(question.key), left
        left -= pause
        looks = looks + 1 if flight.held and flight.held == seen else 0
        seen = flight.held
    return NOT_SHARED, left


def _lead(
    flight: Flight, question: Question, open_entry: Open[Answer], flights: Flights, left: float
) -> Generator[Step, Any, Found[Answer] | Lead]:
    """Claim the question among processes, and look once more before asking."""
    pause = _FIRST_POLL
    granted: tuple[str, ...] = ()
    brought: dict[str, bytes] | None = {}
    try:
        while True:
            granted = tuple((yield Claim(flight.keys, kept=True)))
            (blob,) = yield Read(flight.keys)
            found = _opened(blob, open_entry)
            if found is not None:
                brought = {question.key: found[1]}
                return found
            if granted or left <= 0:
                brought = None
                return Lead(question, flight, leased=bool(granted))
            yield Pause(pause)
            left -= pause
            pause = min(2 * pause, _LAST_POLL)
    finally:
        if brought is not None:
            flights.land(flight, brought)
            if granted:
                yield Release(granted)


def keep_flow(lead: Lead, packed: Packed, flights: Flights) -> Generator[Step, Any, None]:
    """Store an answer, hand it to all who wait for it, and let others ask again."""
    question = lead.question
    blob, expires = packed
    stored = False
    try:
        stored = yield Write({question.key: blob}, expires)
    finally:
        yield from _end(lead, {question.key: blob}, flights)
    yield Tell(event_of("miss", question, entry.meta_of(blob)))
    if stored:
        yield Tell(event_of("stored", question, NOTHING_KNOWN))


def refuse_flow(
    lead: Lead, code: Code, reason: str, flights: Flights, meta: Meta
) -> Generator[Step, Any, None]:
    """Tell why a whole answer is not kept; those who wait ask for themselves."""
    question = lead.question
    yield from _end(lead, {question.key: NOT_SHARED}, flights)
    yield Tell(event_of("miss", question, meta))
    yield Tell(event_of("refused", question, NOTHING_KNOWN, reason=reason, code=code))


def give_up_flow(lead: Lead, flights: Flights) -> Generator[Step, Any, None]:
    """Keep nothing of an answer that did not come to its end; the next in line leads."""
    is_over = lead.flight is not None and lead.flight.landed.done()
    yield from _end(lead, {}, flights)
    if not is_over:
        yield Tell(event_of("miss", lead.question, NOTHING_KNOWN))


def _end(lead: Lead, brought: dict[str, bytes], flights: Flights) -> Generator[Step, Any, None]:
    if lead.flight is not None:
        flights.land(lead.flight, brought)
    if lead.leased:
        yield Release((lead.question.key,))
