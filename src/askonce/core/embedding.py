"""The flow of a cached embedding call, and what it works on."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from askonce.core import codecs, entry, policy, vectors
from askonce.core.flight import Flight, Flights
from askonce.core.flow import Call, Claim, Pause, Read, Release, Step, Tell, Wait, Write
from askonce.core.keys import Subject, utf8_each
from askonce.core.table import Table, cut, is_run
from askonce.core.vectors import Indices, Vectors
from askonce.errors import AnswerError, InputTypeError
from askonce.events import Event

DEFAULT_WAIT = 300.0
_WINDOW = 1536 * 1024
"""Bytes of entries read at once: what was read is checked and copied in the processor's cache."""

_POLL = 0.02
_OFFERED_AT_ONCE = 1000


@dataclass(frozen=True)
class Inputs:
    """Hold the different texts of one call with their keys.

    `positions` leads from the caller's order to these texts. `spare_keys` are used where a key
    turns out to hold an entry of another text or model.
    """

    subject: Subject
    texts: list[Any]
    keys: list[str]
    bindings: entry.Words
    positions: Indices
    spare_keys: list[str] | None = None

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        subject: Subject,
        name_keys: Callable[[Sequence[str]], list[str]] | None = None,
    ) -> "Inputs":
        """Check texts, let equal ones fall together, and name their keys."""
        refuse_one_string(texts)
        try:
            texts = list(texts)
            digests = _digests(texts, subject)
        except TypeError:
            raise _not_strings(texts) from None
        return cls._of_digests(digests, texts, subject, name_keys)

    @classmethod
    def of_contents(
        cls,
        contents: Sequence[bytes],
        items: Sequence[Any],
        subject: Subject,
        name_keys: Callable[[Sequence[Any]], list[str]] | None = None,
    ) -> "Inputs":
        """Name the keys of items by their contents; the model is asked for the items."""
        return cls._of_digests(subject.digests(contents), items, subject, name_keys)

    @classmethod
    def _of_digests(
        cls,
        digests: Sequence[bytes],
        items: Sequence[Any],
        subject: Subject,
        name_keys: Callable[[Sequence[Any]], list[str]] | None,
    ) -> "Inputs":
        places = dict.fromkeys(digests, 0)
        if len(places) == len(digests):
            unique = list(items)
            positions = np.arange(len(digests))
        else:
            places = {digest: place for place, digest in enumerate(places)}
            positions = np.fromiter(map(places.__getitem__, digests), np.intp, len(digests))
            first = dict(zip(reversed(digests), reversed(items), strict=True))
            unique = [first[digest] for digest in places]
        own = subject.keys(places)
        return cls(
            subject=subject,
            texts=unique,
            keys=_distinct(name_keys(unique), own) if name_keys else own,
            bindings=np.frombuffer(b"".join(places), "<u8")[::4],
            positions=positions,
            spare_keys=own if name_keys else None,
        )


def _digests(texts: list[str], subject: Subject) -> list[bytes]:
    try:
        return subject.digests(map(str.encode, texts))
    except UnicodeEncodeError:  # lone surrogates; to allow for them costs the others time
        return subject.digests(utf8_each(texts))


def _distinct(keys: list[str], spare_keys: list[str]) -> list[str]:
    """Give a spare key to every text whose key is taken by an earlier text."""
    if len(set(keys)) == len(keys):
        return keys
    seen: set[str] = set()
    return [
        spare if key in seen or seen.add(key) else key  # type: ignore[func-returns-value]
        for key, spare in zip(keys, spare_keys, strict=True)
    ]


def refuse_one_string(texts: object) -> None:
    """Raise InputTypeError where one string was given for a list of them."""
    if isinstance(texts, str | bytes):
        raise InputTypeError("texts is one string; give a list of strings, like [text]")


def _not_strings(texts: object) -> InputTypeError:
    if not isinstance(texts, Iterable):
        return InputTypeError(f"texts is a {type(texts).__qualname__}; give a list of strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            return InputTypeError(
                f"texts[{index}] is a {type(text).__qualname__}; only strings can be embedded"
            )
    return InputTypeError("texts is not a list of strings")


@dataclass
class Terms:
    """Hold what an embedding flow needs to know besides its inputs.

    `dimensions` are what the model was asked for, `learned` what it answered with, by subject,
    and `declared` what it says of itself, which its first answer overrules. `codec` is how
    answers are kept, and part of the subject if it is a lossy one. Entries from before `since` are
    not taken; unless `keep`, nothing is stored.
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
    """Look up without asking; afterwards `inputs.keys` tells where each text's entry belongs."""
    known = terms.dimensions or terms.learned.get(inputs.subject.digest()) or terms.declared
    table = Table(inputs.bindings, dimensions=known, now=terms.now, since=terms.since)
    if inputs.keys:
        yield from _look_up(np.arange(len(inputs.keys)), inputs, table)
    return table


def _look_up(
    places: Indices, inputs: Inputs, table: Table
) -> Generator[Step, Any, dict[int, bytes]]:
    """Fill the table from the store; a key with an entry not ours gives way to a spare.

    Gives back the entries that are there but were of no use.
    """
    useless: dict[int, bytes] = {}
    rest = places
    while len(rest):
        window, rest = np.split(rest, [table.rows_in(_WINDOW)])
        blobs = yield Read(_at(window, inputs.keys), joined=True)
        foreign = table.put(window, blobs)
        if foreign.size and inputs.spare_keys is not None:
            _give_way(foreign, inputs)
            spare = yield Read([inputs.keys[place] for place in foreign.tolist()])
            table.put(foreign, spare)
        bad = (~table.good[window]).nonzero()[0].tolist()
        if bad and isinstance(blobs, bytes):
            blobs = cut(blobs, len(window))
        for index in bad:
            if (blob := blobs[index]) is not None:
                useless[int(window[index])] = blob
    table.finish()
    return useless


def _give_way(foreign: Indices, inputs: Inputs) -> None:
    """Leave keys to the entries that are there, and use the spare ones."""
    if inputs.spare_keys is not None:
        for place in foreign.tolist():
            inputs.keys[place] = inputs.spare_keys[place]


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
        useless = yield from _look_up(_places(wanted, flight.keys), inputs, table)
        places = _places(wanted, granted)
        places = places[~table.good[places]]
        if places.size:
            texts = [inputs.texts[place] for place in places.tolist()]
            answer = yield Call(texts)
            rows = vectors.rows_of(answer, len(texts))
            _check_dimensions(rows.shape[1], inputs.subject, terms)
            table.learn(rows.shape[1])
            if useless:
                # Only now is it known how long the model's vectors are, and so which entries fit.
                there = [useless.get(place) for place in places.tolist()]
                _give_way(table.put(places, there), inputs)
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
