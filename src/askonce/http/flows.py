"""The flows of an HTTP answer: find it or lead in asking for it, then save it or let go."""

import secrets
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from askonce.chat import NOT_SHARED, Question
from askonce.core import codecs, entry
from askonce.core.flight import Flight, Flights
from askonce.core.flow import Claim, Pause, Read, Release, Step, Tell, Wait, Write
from askonce.core.keys import namespace_prefix, segment
from askonce.events import Event
from askonce.http.answer import Answer
from askonce.http.control import Policy

STALE_FOR = 7 * 86400.0
"""Seconds that an answer may be kept beyond its end, for the stale-… directives."""

_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Found:
    """Hold an answer that may be given."""

    answer: Answer
    stale: bool = False
    collapsed: bool = False


@dataclass(slots=True)
class Lead:
    """Be the duty to ask, and then to save or to let go; `stale` is an answer gone stale."""

    question: Question
    reason: str
    flight: Flight | None = None
    leased: bool = False
    stale: Answer | None = None


Outcome = Found | Lead


def find_flow(
    question: Question, policy: Policy, flights: Flights, *, wait: float, now: float
) -> Generator[Step, Any, Outcome]:
    """Look an answer up; wait for whoever is asking; else lead.

    With `only_if_cached` the lead is without a flight, for nobody will ask.
    """
    found = yield from _look(question, policy, now)
    told = (1, question.namespace, question.model)
    if isinstance(found, Found) and not policy.no_cache:
        yield Tell(Event("hit", *told))
        return found
    stale = found if isinstance(found, Answer) else None
    if policy.no_cache or policy.only_if_cached:
        yield Tell(Event("miss", *told))
        return Lead(question, "request" if policy.no_cache else "miss", stale=stale)
    outcome = yield from _join(question, policy, flights, wait=wait, now=now)
    if isinstance(outcome, Lead):
        outcome.stale = stale
        outcome.reason = "stale" if stale else outcome.reason
    yield Tell(Event("miss" if isinstance(outcome, Lead) else "hit", *told))
    return outcome


def _join(
    question: Question, policy: Policy, flights: Flights, *, wait: float, now: float
) -> Generator[Step, Any, Outcome]:
    keys = (question.key,)
    while True:
        flight = flights.claim(keys)
        if flight is not None:
            return (yield from _lead(flight, question, policy, flights, wait=wait, now=now))
        for other in flights.under_way(keys):
            landed = yield Wait(other, wait)
            if landed is None or landed.get(question.key) == NOT_SHARED:
                return Lead(question, "miss")
            answer = Answer.unpack(landed.get(question.key), question.binding)
            if answer is not None:
                return Found(answer, collapsed=True)


def _lead(
    flight: Flight,
    question: Question,
    policy: Policy,
    flights: Flights,
    *,
    wait: float,
    now: float,
) -> Generator[Step, Any, Outcome]:
    """Claim the question among processes too, and look once more before asking."""
    waited = 0.0
    leading = False
    try:
        while True:
            granted = yield Claim(flight.keys, kept=True)
            found = yield from _look(question, policy, now)
            if isinstance(found, Found):
                if granted:
                    yield Release(flight.keys)
                return Found(found.answer, collapsed=True)
            if granted or waited >= wait:
                leading = True
                return Lead(question, "miss", flight, bool(granted))
            yield Pause(_POLL)
            waited += _POLL
    finally:
        if not leading:
            flights.land(flight, {})


def _look(
    question: Question, policy: Policy, now: float
) -> Generator[Step, Any, Found | Answer | None]:
    """Give what may be given, or an answer that has gone stale, or None."""
    (blob,) = yield Read((question.key,))
    answer = Answer.unpack(blob, question.binding)
    if answer is None:
        return None
    if answer.tags:
        names = list(answer.tags)
        epochs = yield Read([tag_key(question.namespace, name) for name in names])
        if [_epoch(epoch) for epoch in epochs] != [answer.tags[name] for name in names]:
            return None
    if policy.max_age is not None and now - answer.created > policy.max_age:
        return answer
    if now >= answer.expires:
        if now < answer.expires + policy.stale_while_revalidate:
            return Found(answer, stale=True)
        return answer
    return Found(answer)


def save_flow(lead: Lead, answer: Answer, flights: Flights) -> Generator[Step, Any, None]:
    """Store an answer, hand it to all who wait, and let others ask again."""
    blob = answer.pack(lead.question.binding)
    try:
        stored = yield Write({lead.question.key: blob}, answer.expires + STALE_FOR)
    finally:
        _land(lead, blob, flights)
    if lead.leased:
        yield Release((lead.question.key,))
    if stored:
        yield Tell(Event("stored", 1, lead.question.namespace, lead.question.model))


def let_go_flow(lead: Lead, reason: str, flights: Flights) -> Generator[Step, Any, None]:
    """Keep nothing: those who wait ask for themselves, one after the other or all at once.

    An empty reason means that the answer did not come to its end; the next in line leads.
    """
    _land(lead, NOT_SHARED if reason else None, flights)
    if lead.leased:
        yield Release((lead.question.key,))
    event = Event("refused", 1, lead.question.namespace, lead.question.model, reason=reason)
    if reason:
        yield Tell(event)


def _land(lead: Lead, blob: bytes | None, flights: Flights) -> None:
    if lead.flight is not None:
        flights.land(lead.flight, {} if blob is None else {lead.question.key: blob})


def tag_key(namespace: str, tag: str) -> str:
    """Name the entry that holds a tag's epoch."""
    return f"{namespace_prefix(namespace)}tag/{segment(tag)}"


def epochs_flow(
    namespace: str, tags: Iterable[str], now: float
) -> Generator[Step, Any, dict[str, str]]:
    """Give the epoch of each tag, beginning one where there is none.

    A tag whose epoch got lost thereby retires its entries, never the reverse.
    """
    names = list(tags)
    blobs = yield Read([tag_key(namespace, name) for name in names])
    epochs = {name: _epoch(blob) for name, blob in zip(names, blobs, strict=True)}
    if begun := [name for name, epoch in epochs.items() if not epoch]:
        epochs |= yield from retire_flow(namespace, begun, now)
    return epochs


def retire_flow(
    namespace: str, tags: Iterable[str], now: float
) -> Generator[Step, Any, dict[str, str]]:
    """Begin a new epoch for each tag: no entry of the old one is given any more."""
    epochs = {name: secrets.token_hex(8) for name in tags}
    entries = {
        tag_key(namespace, name): entry.pack(entry.Entry(epoch.encode(), codecs.JSON, now))
        for name, epoch in epochs.items()
    }
    yield Write(entries)
    return epochs


def _epoch(blob: bytes | None) -> str:
    found = entry.unpack(blob) if blob else None
    return found.payload.decode(errors="replace") if found else ""
