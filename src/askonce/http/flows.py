"""The flows of an HTTP answer: find it or lead in asking for it, then save it or let go."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from askonce.chat import NOT_SHARED, Question
from askonce.core.flight import Flight, Flights
from askonce.core.flow import Claim, Pause, Read, Release, Step, Tell, Write
from askonce.events import Code, Event, Kind
from askonce.http.answer import Answer
from askonce.http.control import Policy
from askonce.http.tags import are_current
from askonce.leading import follow_flow
from askonce.wire import Usage

STALE_FOR = 7 * 86400.0
"""Seconds that an answer may be kept beyond its end, for the stale-… directives."""

_FIRST_POLL = 0.01
_LAST_POLL = 0.1
_LEADERS = 3
"""So many leaders may fail one after the other before all who wait ask for themselves."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Hold what finding an answer needs to know: `wait` is the seconds to wait for others."""

    question: Question
    policy: Policy
    flights: Flights
    wait: float
    now: float


@dataclass(frozen=True, slots=True)
class Spent:
    """Hold what an answer cost, as far as its provider told."""

    usage: Usage | None = None
    seconds: float = 0.0


NOTHING_KNOWN = Spent()


@dataclass(frozen=True, slots=True)
class Found:
    """Hold an answer that may be given, and its entry."""

    answer: Answer
    blob: bytes = b""
    stale: bool = False
    collapsed: bool = False


@dataclass(slots=True)
class Lead:
    """Be the duty to ask, and then to save or to let go; `stale` is an answer gone stale."""

    question: Question
    reason: str = "miss"
    flight: Flight | None = None
    leased: bool = False
    stale: Answer | None = None


Outcome = Found | Lead


def find_flow(terms: Terms) -> Generator[Step, Any, Outcome]:
    """Look an answer up; wait for whoever is asking; else lead.

    A miss is told at its end, when it is known what it cost. Who wants no answer but a new one,
    or none to be stored, leads by himself: without a flight.
    """
    question, policy = terms.question, terms.policy
    found = yield from _look(terms)
    if isinstance(found, Found) and not policy.no_cache:
        yield Tell(event_of("hit", question, found.answer))
        return found
    stale = found.answer if isinstance(found, Found) else found
    if policy.no_cache:
        outcome: Outcome = Lead(question, "request")
    elif policy.no_store or policy.only_if_cached:
        outcome = Lead(question)
    else:
        outcome = yield from _join(terms)
    if isinstance(outcome, Found):
        yield Tell(event_of("hit", question, outcome.answer))
        return outcome
    outcome.stale = stale
    if stale and not policy.no_cache:
        outcome.reason = "stale"
    if policy.only_if_cached:
        yield Tell(event_of("miss", question))
    return outcome


def refresh_flow(terms: Terms) -> Generator[Step, Any, Lead | None]:
    """Lead in asking anew for an answer gone stale; None if somebody else does or has done."""
    flight = terms.flights.claim((terms.question.key,))
    if flight is None:
        return None
    outcome = yield from _lead(flight, terms, 0.0)
    if isinstance(outcome, Found):
        return None
    if not outcome.leased:
        yield from _give_up(outcome, None, terms.flights)
        return None
    outcome.reason = "stale"
    return outcome


def _join(terms: Terms) -> Generator[Step, Any, Outcome]:
    keys = (terms.question.key,)
    left = terms.wait
    leaders = _LEADERS
    while leaders and left > 0:
        flight = terms.flights.claim(keys)
        if flight is not None:
            return (yield from _lead(flight, terms, left))
        for other in terms.flights.under_way(keys):
            blob, left = yield from follow_flow(other, terms.question, left)
            answer = Answer.unpack(blob, terms.question.binding)
            if answer is not None and _is_young(answer, terms):
                return Found(answer, collapsed=True)
            if blob == NOT_SHARED:
                return Lead(terms.question)
            leaders -= 1
    return Lead(terms.question)


def _lead(flight: Flight, terms: Terms, left: float) -> Generator[Step, Any, Outcome]:
    """Claim the question among processes too, and look once more before asking."""
    question = terms.question
    pause = _FIRST_POLL
    lead: Lead | None = None
    granted = False
    blob: bytes | None = None
    try:
        while lead is None:
            granted = bool((yield Claim(flight.keys, kept=True)))
            found = yield from _look(terms)
            if isinstance(found, Found) and not found.stale:
                blob = found.blob
                return Found(found.answer, blob, collapsed=True)
            if granted or left <= 0:
                lead = Lead(question, "miss", flight, granted)
            else:
                yield Pause(pause)
                left -= pause
                pause = min(2 * pause, _LAST_POLL)
        return lead
    finally:
        if lead is None:
            terms.flights.land(flight, {} if blob is None else {question.key: blob})
            if granted:
                yield Release(flight.keys)


def _look(terms: Terms) -> Generator[Step, Any, Found | Answer | None]:
    """Give what may be given, or an answer that has gone stale, or None."""
    question, policy, now = terms.question, terms.policy, terms.now
    (blob,) = yield Read((question.key,))
    answer = Answer.unpack(blob, question.binding)
    if answer is None or not (yield from are_current(question.namespace, answer.tags)):
        return None
    if not _is_young(answer, terms):
        return answer
    if now < answer.expires:
        return Found(answer, blob)
    if now < answer.expires + policy.stale_while_revalidate:
        return Found(answer, blob, stale=True)
    return answer


def _is_young(answer: Answer, terms: Terms) -> bool:
    return terms.policy.max_age is None or terms.now - answer.created <= terms.policy.max_age


def save_flow(
    lead: Lead, answer: Answer, blob: bytes, flights: Flights
) -> Generator[Step, Any, None]:
    """Store an answer, hand it to all who wait, and let others ask again."""
    stored = False
    try:
        stored = yield Write({lead.question.key: blob}, answer.expires + STALE_FOR)
    finally:
        yield from _give_up(lead, blob, flights)
    yield Tell(event_of("miss", lead.question, answer))
    if stored:
        yield Tell(event_of("stored", lead.question))


def let_go_flow(
    lead: Lead,
    code: Code,
    reason: str,
    flights: Flights,
    *,
    ended: bool,
    spent: Spent = NOTHING_KNOWN,
) -> Generator[Step, Any, None]:
    """Keep nothing, for this reason.

    If the answer came to its end, those who wait ask for themselves, all at once; else the next
    in line leads. `spent` is what the answer cost all the same.
    """
    yield from _give_up(lead, NOT_SHARED if ended else None, flights)
    yield Tell(event_of("miss", lead.question, spent))
    namespace, model = lead.question.namespace, lead.question.model
    yield Tell(Event("refused", 1, namespace, model, reason=reason, code=code))


def event_of(kind: Kind, question: Question, spent: Spent | Answer = NOTHING_KNOWN) -> Event:
    """Tell of a question, and what its answer cost or would have."""
    usage = spent.usage
    return Event(
        kind,
        1,
        question.namespace,
        usage.model if usage and usage.model else question.model,
        spent.seconds,
        input_tokens=usage.input if usage else None,
        output_tokens=usage.output if usage else None,
        cached_tokens=usage.cached if usage else None,
    )


def _give_up(lead: Lead, blob: bytes | None, flights: Flights) -> Generator[Step, Any, None]:
    """Lead no longer: hand what there is to all who wait, and let other processes lead."""
    if lead.flight is not None:
        flights.land(lead.flight, {} if blob is None else {lead.question.key: blob})
    if lead.leased:
        yield Release((lead.question.key,))
