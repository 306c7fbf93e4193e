"""What each API key has asked and spent, over all workers and hosts that share a store.

Every worker writes counts of its own and adds up everybody's, so any store will do: none has to
count atomically. A worker knows what the others had written when it looked last.
"""

import asyncio
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from askonce.core import codecs, entry
from askonce.core.keys import RESERVED
from askonce.core.store import Store
from askonce.errors import InputError
from askonce.gateway.api_keys import ApiKey

PREFIX = f"{RESERVED}gateway/spent/"
"""Begins keys that go on with the UTC day and the writer."""

_DAY = 86400
_SLOT = 2
"""Seconds that are counted together."""

_SLOTS = 60 // _SLOT
"""So many before the present one are counted with it: a minute at least, 2 seconds more at most."""

_WINDOW = _SLOT * (_SLOTS + 1)
_WRITER = re.compile(r"[A-Za-z0-9._-]+")
_KEY = re.compile(rf"{re.escape(PREFIX)}(\d{{4}}-\d\d-\d\d)/({_WRITER.pattern})")


@dataclass(frozen=True, slots=True)
class Refused:
    """Say which limit of a key is reached, and in how many seconds it no longer is."""

    reason: Literal["requests_per_minute", "budget_per_day"]
    retry_after: float
    message: str


@dataclass(frozen=True, slots=True)
class _Counts:
    """Hold one writer's counts: by key the dollars of a day, and the requests of each slot."""

    spent: Mapping[str, float]
    asked: Mapping[str, Mapping[int, int]]


class Ledger:
    """Count what each key has asked and spent, over all workers and hosts that share a store.

    `writer` is a name that nobody else has, of letters, digits and `._-`; `exchange` is to be
    called every `every` seconds. A limit is exceeded at most by what each worker lets in during
    two such times, and a budget also by what is under way then. `trouble` says why the last
    exchange failed. For one event loop; times are in seconds since 1970.
    """

    def __init__(self, store: Store, *, writer: str, every: float = 1.0) -> None:
        if not _WRITER.fullmatch(writer):
            raise InputError(f"writer is {writer!r}; give letters, digits and any of ._-")
        self.every = every
        self.trouble: str | None = None
        self._store = store
        self._writer = writer
        self._spent: defaultdict[int, dict[str, float]] = defaultdict(dict)
        self._asked: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._others: dict[tuple[int, str], _Counts] = {}
        self._spent_elsewhere: dict[tuple[int, str], float] = {}
        self._asked_elsewhere: dict[str, Counter[int]] = {}
        self._changes = 0
        self._written = 0
        self._stored: tuple[str, bytes] | None = None
        self._active = -math.inf
        self._has_read = False
        self._turn = asyncio.Lock()

    def refusal(self, key: ApiKey, *, now: float) -> Refused | None:
        """Tell which limit of a key is reached, None if a request may come in."""
        if key.budget_per_day is not None:
            self._active = now
            day = _day(now)
            spent = self._spent_elsewhere.get((day, key.id), 0.0)
            spent += self._spent[day].get(key.id, 0.0) if day in self._spent else 0.0
            if spent >= key.budget_per_day:
                return Refused(
                    "budget_per_day",
                    (day + 1) * _DAY - now,
                    f"the key {key.name!r} has spent its ${key.budget_per_day:.2f} of this day; "
                    "the next one begins at 00:00 UTC",
                )
        if key.requests_per_minute is not None:
            self._active = now
            wait = self._wait(key.id, key.requests_per_minute, now)
            if wait:
                return Refused(
                    "requests_per_minute",
                    wait,
                    f"the key {key.name!r} has asked its {key.requests_per_minute} times a minute; "
                    f"ask again in {math.ceil(wait)} s",
                )
        return None

    def note_request(self, key: ApiKey, *, now: float) -> None:
        """Count a request that was let in."""
        if key.requests_per_minute is not None:
            slot = _slot(now)
            counts = self._asked[key.id]
            if slot not in counts:
                for old in [one for one in counts if one < slot - _SLOTS]:
                    del counts[old]
            counts[slot] = counts.get(slot, 0) + 1
            self._noted(now)

    def note_spent(self, key: ApiKey, dollars: float, *, now: float) -> None:
        """Add what a request cost."""
        if key.budget_per_day is not None and 0 < dollars < math.inf:
            spent = self._spent[_day(now)]
            spent[key.id] = spent.get(key.id, 0.0) + dollars
            self._noted(now)

    async def exchange(self, *, now: float) -> None:
        """Write what changed here and read what others wrote.

        While the store fails, counting goes on here, and is written when it works again.
        """
        async with self._turn:
            trouble: str | None = None
            for step in (self._write, self._read):
                try:
                    await step(now)
                except Exception as error:  # noqa: BLE001  no store is to break the gateway
                    trouble = trouble or f"{type(error).__name__}: {error}"
            self.trouble = trouble

    def _noted(self, now: float) -> None:
        self._changes += 1
        self._active = now

    def _wait(self, number: str, limit: int, now: float) -> float:
        """Tell how many seconds it takes until fewer than `limit` requests count."""
        present = _slot(now)
        # Clocks of hosts differ; what is far ahead is of one that is wrong.
        first, last = present - _SLOTS, present + _SLOTS
        both = (self._asked.get(number), self._asked_elsewhere.get(number))
        counts = [
            (slot, count)
            for asked in both
            if asked
            for slot, count in asked.items()
            if first <= slot <= last
        ]
        total = sum([count for _, count in counts])
        if total < limit:
            return 0.0
        freed = present
        for slot, count in sorted(counts):
            if total < limit:
                break
            total -= count
            freed = slot
        return (freed + _SLOTS + 1) * _SLOT - now

    async def _write(self, now: float) -> None:
        if self._written == self._changes:
            return
        day = _day(now)
        for old in [one for one in self._spent if one < day - 1]:
            del self._spent[old]
        oldest = _slot(now) - _SLOTS
        for number in [one for one, counts in self._asked.items() if max(counts) < oldest]:
            del self._asked[number]
        changes = self._changes
        key = f"{PREFIX}{_name(day)}/{self._writer}"
        expires = (day + 2.0) * _DAY
        blob = _encode(_Counts(self._spent.get(day, {}), self._asked), now, expires)
        await self._store.awrite({key: blob}, expires=expires)
        self._written = changes
        self._stored = key, blob

    async def _read(self, now: float) -> None:
        if self._has_read and not 0 <= now - self._active <= _WINDOW:
            # Nobody with a limit has asked for so long that nothing of it counts any more.
            return
        today = _day(now)
        days = {_name(day): day for day in (_day(now - _WINDOW), today)}
        wanted: dict[str, tuple[int, str]] = {}
        outdated: list[str] = []
        async for key in self._store.akeys(PREFIX):
            match = _KEY.fullmatch(key)
            if match and match[1] in days:
                wanted[key] = days[match[1]], match[2]
            elif match and match[1] < _name(today - 1):
                outdated.append(key)
        values = dict(zip(wanted, await self._store.aread(list(wanted)), strict=True))
        for key, (day, writer) in wanted.items():
            counts = _decode(values[key])
            # What another one has spent does not shrink, whatever happens to what it wrote.
            if writer != self._writer and counts is not None:
                self._others[day, writer] = counts
        if self._stored and self._stored[0].startswith(PREFIX + _name(today)):
            key, blob = self._stored
            if values.get(key) != blob:
                self._written = -1
        self._add_up(set(days.values()))
        self._has_read = True
        if outdated:
            await self._store.adelete(outdated)

    def _add_up(self, days: set[int]) -> None:
        self._others = {place: one for place, one in self._others.items() if place[0] in days}
        spent: dict[tuple[int, str], float] = {}
        latest: dict[str, _Counts] = {}
        for (day, writer), counts in sorted(self._others.items(), key=lambda item: item[0]):
            latest[writer] = counts
            for number, dollars in counts.spent.items():
                spent[day, number] = spent.get((day, number), 0.0) + dollars
        asked: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for counts in latest.values():
            for number, slots in counts.asked.items():
                asked[number].update(slots)
        self._spent_elsewhere = spent
        self._asked_elsewhere = dict(asked)


def _day(now: float) -> int:
    return int(now // _DAY)


def _slot(now: float) -> int:
    return int(now // _SLOT)


def _name(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY, UTC).date().isoformat()


def _encode(counts: _Counts, now: float, expires: float) -> bytes:
    payload = json.dumps({"spent": counts.spent, "asked": counts.asked}).encode()
    return entry.pack(entry.Entry(payload, codecs.JSON, now, expires))


def _decode(value: bytes | None) -> _Counts | None:
    """Read counts, None if they are damaged."""
    found = None if value is None else entry.unpack(value)
    if found is None:
        return None
    try:
        told: Any = json.loads(found.payload)
        return _Counts(
            {number: float(dollars) for number, dollars in told["spent"].items()},
            {
                number: {int(slot): int(count) for slot, count in slots.items()}
                for number, slots in told["asked"].items()
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
