"""The flow of a cached embedding call, and what it works on."""

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from askonce.core import codecs, policy, vectors
from askonce.core.flight import Flight, Flights
from askonce.core.flow import (
    Begin,
    Call,
    Claim,
    Finish,
    Pause,
    Read,
    Release,
    Step,
    Tell,
    Wait,
    Write,
)
from askonce.core.inputs import Inputs
from askonce.core.keys import Subject
from askonce.core.table import Table, cut, is_run, rows_in
from askonce.core.vectors import Indices, Vectors
from askonce.errors import AnswerError
from askonce.events import Event

DEFAULT_WAIT = 300.0
_WINDOW = 4 * 1024 * 1024
"""Bytes of entries read at once: each turn that threads take costs time, fresh memory too."""

_MOST_AHEAD = 900
"""Texts digested at once: while they are, the thread that reads gets to no other statement."""

_POLL = 0.02
_OFFERED_AT_ONCE = 1000


@dataclass
class Terms:
    """Hold what an embedding flow needs to know besides its inputs.

    `dimensions` are what the model was asked for, `learned` what it answered with, by subject,
    and `declared` what it says of itself, which its first answer overrules. `codec` is how
    answers are kept, and part of the subject if it is a lossy one. Entries from before `since` are
    not taken; unless `keep`, nothing is stored. `beside` is what a large look-up leaves to another
    core, if there is one to be had.
    """

    flights: Flights
    batch_size: int
    dimensions: int | None
    now: float
    ttl: float | None = None
    wait: float = DEFAULT_WAIT
    learned: dict[bytes, int] = field(default_factory=dict[bytes, int])
    declared: int | None = None
    codec: codecs.Codec = "lossless"
    since: float = -math.inf
    keep: bool = True
    beside: Literal["reads", "copies"] | None = "copies"


def embed_flow(inputs: Inputs, terms: Terms) -> Generator[Step, Any, Vectors]:
    """Look up, ask once for what is missing, store each batch as it comes, keep the order."""
    subject = inputs.subject
    keys = inputs.keys
    table = yield from look_up_flow(inputs, terms)
    missing = table.missing()
    if hits := len(keys) - len(missing):
        yield Tell(Event("hit", hits, subject.namespace, subject.model))
    if missing.size:
        yield Tell(Event("miss", len(missing), subject.namespace, subject.model))
    overdue: set[str] = set()
    elsewhere = np.zeros(len(keys), bool)
    waited = 0.0
    while (missing := table.missing()).size:
        here = missing[~elsewhere[missing]]
        if not here.size:
            yield Pause(_POLL)
            waited += _POLL
            elsewhere[:] = False
            continue
        wanted: dict[str, int] = {}
        flight = terms.flights.claim(_offered(here, keys, wanted), limit=terms.batch_size)
        if flight is None:
            for other in terms.flights.under_way(wanted):
                landed = yield Wait(other, terms.wait)
                if landed is None:
                    overdue.update(other.keys)
                else:
                    brought = [key for key in other.keys if key in wanted and key in landed]
                    table.put(_places(wanted, brought), [landed[key] for key in brought])
            late = [key for key in wanted if key in overdue][: terms.batch_size]
            if not late:
                continue
            flight = terms.flights.take_over(late)
        patient = waited < terms.wait and overdue.isdisjoint(flight.keys)
        refused = yield from _ask(flight, wanted, inputs, table, terms, patient=patient)
        elsewhere[_places(wanted, refused)] = True
    return table.take(inputs.positions)


def _offered(places: Indices, keys: Sequence[str], wanted: dict[str, int]) -> Iterator[str]:
    """Give keys as long as more are taken, and note what they are wanted for."""
    for start in range(0, len(places), _OFFERED_AT_ONCE):
        some: list[int] = places[start : start + _OFFERED_AT_ONCE].tolist()
        for place in some:
            wanted[keys[place]] = place
            yield keys[place]


def look_up_flow(inputs: Inputs, terms: Terms) -> Generator[Step, Any, Table]:
    """Look up without asking; afterwards `inputs.keys` tells where each text's entry belongs.

    Inputs that were not taken in yet are, then. Raises InputTypeError if they are no strings.
    """
    known = terms.dimensions or terms.learned.get(inputs.subject.digest()) or terms.declared
    rows = rows_in(_WINDOW, known)
    ahead = terms.beside == "reads" and inputs.given > min(_MOST_AHEAD, rows)
    if not ahead:
        inputs.take_in_all()
    table = Table(
        inputs.room if ahead else inputs.bindings,
        dimensions=known,
        now=terms.now,
        since=terms.since,
        beside=terms.beside == "copies" and inputs.given > rows,
    )
    try:
        yield from _look_up_ahead(inputs, table) if ahead else _look_up(inputs, table)
    finally:
        table.finish()
    table.end_at(len(inputs.keys))
    return table


def _look_up_ahead(inputs: Inputs, table: Table) -> Generator[Step, Any, None]:
    """Look all up, a window at a time: while one is read, the next is digested.

    Then the one is checked and copied while the next is read.
    """
    begun: deque[tuple[Indices, Any]] = deque()
    window, blobs = np.empty(0, np.intp), b""
    while inputs.left or begun or len(window):
        following = _take_in(inputs, table)
        if len(following):
            begun.append((following, (yield Begin(_at(following, inputs.keys)))))
        if len(window):
            yield from _put(window, blobs, inputs, table)
            window, blobs = window[:0], b""
        if begun and (len(begun) > 1 or not inputs.left):
            window, reading = begun.popleft()
            blobs = yield Finish(reading)


def _take_in(inputs: Inputs, table: Table) -> Indices:
    """Take in a window of inputs that are different from those before; none if none is left."""
    while True:
        window = inputs.take_in(min(_MOST_AHEAD, table.rows_in(_WINDOW)))
        if len(window) or not inputs.left:
            return window


def _look_up(inputs: Inputs, table: Table) -> Generator[Step, Any, None]:
    """Look all up, a window after the other."""
    rest = np.arange(len(inputs.keys))
    while len(rest):
        window, rest = np.split(rest, [table.rows_in(_WINDOW)])
        blobs = yield Read(_at(window, inputs.keys), joined=True)
        yield from _put(window, blobs, inputs, table)


def _look_again(
    places: Indices, inputs: Inputs, table: Table
) -> Generator[Step, Any, dict[int, bytes]]:
    """Look some up before they are asked for; give the entries that are there but of no use."""
    useless: dict[int, bytes] = {}
    rest = places
    while len(rest):
        window, rest = np.split(rest, [table.rows_in(_WINDOW)])
        blobs = yield Read(_at(window, inputs.keys), joined=True)
        yield from _put(window, blobs, inputs, table)
        bad = (~table.good[window]).nonzero()[0].tolist()
        if bad and isinstance(blobs, bytes):
            blobs = cut(blobs, len(window))
        for index in bad:
            if (blob := blobs[index]) is not None:
                useless[int(window[index])] = blob
    return useless


def _put(
    window: Indices, blobs: bytes | Sequence[bytes | None], inputs: Inputs, table: Table
) -> Generator[Step, Any, None]:
    """Fill in what was read; where that is not ours, what is under the spare keys."""
    foreign = table.put(window, blobs)
    if foreign.size and inputs.spare_keys is not None:
        inputs.give_way(foreign)
        spare = yield Read([inputs.keys[place] for place in foreign.tolist()])
        table.put(foreign, spare)


def _ask(
    flight: Flight,
    wanted: Mapping[str, int],
    inputs: Inputs,
    table: Table,
    terms: Terms,
    *,
    patient: bool,
) -> Generator[Step, Any, list[str]]:
    """Lead one flight: claim, look again, ask for what is still missing, store it, land.

    Gives back the keys that another process is asking for; an impatient caller asks for all.
    """
    brought: dict[str, bytes] = {}
    try:
        granted: Sequence[str] = flight.keys
        if patient:
            granted = yield Claim(flight.keys)
        useless = yield from _look_again(_places(wanted, flight.keys), inputs, table)
        places = _places(wanted, granted)
        places = places[~table.good[places]]
        if places.size:
            texts = [inputs.items[place] for place in places.tolist()]
            answer = yield Call(texts)
            rows = vectors.rows_of(answer, len(texts))
            _check_dimensions(rows.shape[1], inputs.subject, terms)
            table.learn(rows.shape[1])
            if useless:
                # Only now is it known how long the model's vectors are, and so which entries fit.
                there = [useless.get(place) for place in places.tolist()]
                inputs.give_way(table.put(places, there))
                open_ones = ~table.good[places]
                places, rows = places[open_ones], rows[open_ones]
            expires = policy.expires_at(terms.ttl, now=terms.now)
            bindings = inputs.bindings[places]
            parts = vectors.parts_of(rows, terms.codec)
            for part in parts:
                table.fill(places[part.rows], part.vectors())
            blobs = vectors.pack_parts(parts, bindings, created=terms.now, expires=expires)
            brought = dict(zip((inputs.keys[p] for p in places.tolist()), blobs, strict=True))
            stored = terms.keep and (yield Write(brought, expires))
            if stored:
                subject = inputs.subject
                yield Tell(Event("stored", len(brought), subject.namespace, subject.model))
    finally:
        terms.flights.land(flight, brought)
    if patient:
        yield Release(granted)
    return list(set(flight.keys).difference(granted))


def _at(places: Indices, keys: list[str]) -> list[str]:
    if is_run(places):
        return keys[places[0] : places[-1] + 1]
    return [keys[place] for place in places.tolist()]


def _places(wanted: Mapping[str, int], keys: Sequence[str]) -> Indices:
    return np.array([wanted[key] for key in keys], np.intp)


def _check_dimensions(dimensions: int, subject: Subject, terms: Terms) -> None:
    expected = terms.dimensions or terms.learned.setdefault(subject.digest(), dimensions)
    if dimensions != expected:
        raise AnswerError(
            f"the model {subject.model!r} answered with vectors of {dimensions} dimensions, "
            f"but {expected} {'were asked for' if terms.dimensions else 'before'}; "
            "give each model, and each number of dimensions, a cache of its own"
        )
