"""Copying entries from any store into any other.

No note is kept of how far it came: what is there already with the same bytes is left alone, so to
go on with a copy that was stopped is to begin it again.
"""

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from askonce.core import entry, flow
from askonce.core.keys import RESERVED
from askonce.core.store import Store
from askonce.errors import StoreError, StoreRefusedError
from askonce.stores.patience import PATIENCE, patiently
from askonce.upkeep import damage_of, read_each

__all__ = ["Existing", "Outcome", "Problem", "Transfer", "ahead", "copy", "pairs_of"]

T = TypeVar("T")

Pair = tuple[str, bytes | StoreError | None]
"""A key, and its value or why that cannot be read."""

Existing = Literal["newer", "keep", "replace"]
"""What becomes of other bytes under the same key: the newer stay, the old stay, or neither."""

Progress = Callable[[int], None]
"""Hears how many more entries are done."""

_FIRST = 100
_MOST = 1000
_BYTES = 8 * 1024**2
"""A batch has so many entries at first, at most, and so many bytes as far as that is foreseen."""

_FEW = 20

_LATER = 8
"""Entries of one batch are written together if the times they have left differ by no more than
one part in so many: what is to be reclaimed may be so a little later, never sooner."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Tell which entry did not come over, and why."""

    key: str
    reason: str


@dataclass
class Outcome:
    """Count what became of entries: a `kept` one is other, and stayed as it was.

    `problems` are those that are damaged, that the target does not take, or that it lost.
    """

    copied: int = 0
    there: int = 0
    kept: int = 0
    expired: int = 0
    problems: int = 0


@dataclass
class Transfer:
    """Put entries into a store, batch by batch; `verify` reads each batch back and compares.

    `tell` hears of each problem. A failing store is given `patience` seconds to come back.
    """

    target: Store
    existing: Existing = "newer"
    verify: bool = False
    tell: Callable[[Problem], None] = lambda _: None
    patience: float = PATIENCE
    outcome: Outcome = field(default_factory=Outcome)

    def put(self, pairs: Iterable[Pair]) -> None:
        """Put entries, but none that is damaged, has expired or is there. Raises StoreError."""
        now = flow.now()
        sound = self.sound(pairs, now)
        if not sound:
            return
        wanted = self._wanted(sound, now)
        written: dict[str, bytes] = {}
        for expires, group in _by_end(wanted, now):
            written |= self._write(group, expires)
        self._patiently(self.target.flush)
        if self.verify:
            lost = self._lost(written)
            for key, reason in lost.items():
                self.refuse(key, reason)
            self.outcome.copied -= len(lost)
        self.outcome.copied += len(written)

    def sound(self, pairs: Iterable[Pair], now: float) -> dict[str, bytes]:
        """Take out what is to be copied, and count what is not."""
        sound: dict[str, bytes] = {}
        for key, value in pairs:
            if value is None:
                continue  # deleted since it was listed
            if isinstance(value, StoreError):
                self.refuse(key, f"it cannot be read: {value}")
            elif reason := damage_of(value):
                self.refuse(key, reason)
            elif entry.has_expired(value, now=now):
                self.outcome.expired += 1
            else:
                sound[key] = value
        return sound

    def refuse(self, key: str, reason: str) -> None:
        """Count and tell of a problem."""
        self.outcome.problems += 1
        self.tell(Problem(key, reason))

    def _patiently(self, work: Callable[[], T]) -> T:
        return patiently(work, seconds=self.patience)

    def _wanted(self, sound: Mapping[str, bytes], now: float) -> dict[str, bytes]:
        """Take out what is there already, or what is there instead and stays."""
        keys = list(sound)
        wanted: dict[str, bytes] = {}
        for key, theirs in zip(keys, self._patiently(lambda: self.target.read(keys)), strict=True):
            ours = sound[key]
            if theirs == ours:
                self.outcome.there += 1
            elif theirs is not None and _stays(key, theirs, ours, self.existing, now):
                self.outcome.kept += 1
            else:
                wanted[key] = ours
        return wanted

    def _write(self, entries: dict[str, bytes], expires: float) -> dict[str, bytes]:
        """Write, and give what was written; one by one if not all can be."""
        try:
            self._patiently(partial(self.target.write, entries, expires=expires))
        except StoreError as error:
            problems: dict[str, StoreError] = {}
            for key, value in entries.items():
                try:
                    self.target.write({key: value}, expires=expires)
                except StoreError as own:
                    problems[key] = own
            refused = [one for one in problems.values() if isinstance(one, StoreRefusedError)]
            # A few odd entries may make a batch, but not a large one: then it is the store.
            if len(problems) == len(entries) and not len(refused) == len(entries) < _FEW:
                raise error from None
            for key, problem in problems.items():
                self.refuse(key, f"the store does not take it: {problem}")
            return {key: value for key, value in entries.items() if key not in problems}
        return entries

    def _lost(self, written: Mapping[str, bytes]) -> dict[str, str]:
        """Read back what was written and tell what is wrong, by key.

        What others wrote there meanwhile is not.
        """
        keys = list(written)
        lost: dict[str, str] = {}
        for key, theirs in zip(keys, self._patiently(lambda: self.target.read(keys)), strict=True):
            ours = written[key]
            if theirs == ours or entry.has_expired(ours, now=flow.now()):
                continue
            if theirs is None:
                lost[key] = "it was written, but is gone: has the store a limit?"
            elif _created(theirs) <= _created(ours):
                lost[key] = "it was written, but other bytes came back"
        return lost


def copy(
    source: Store,
    target: Store | Transfer,
    *,
    prefix: str = "",
    progress: Progress = lambda _: None,
) -> Outcome:
    """Copy every entry of a store whose key starts with `prefix` into another, bit for bit.

    What has expired or is damaged stays behind. A `Transfer` in the place of the target says what
    becomes of what is there, and hears of problems. Raises StoreError.
    """
    transfer = target if isinstance(target, Transfer) else Transfer(target)
    for pairs in ahead(pairs_of(source, prefix)):
        transfer.put(pairs)
        progress(len(pairs))
    return transfer.outcome


def pairs_of(source: Store, prefix: str = "") -> Iterator[list[Pair]]:
    """Read all entries in batches of a bounded size, but not what stores keep for themselves."""
    keys = (key for key in source.keys(prefix) if not key.startswith(RESERVED))
    at_once = _FIRST
    while part := list(itertools.islice(keys, at_once)):
        pairs = list(zip(part, _read(source, part), strict=True))
        yield pairs
        size = sum(len(value) for _, value in pairs if isinstance(value, bytes))
        foreseen = _BYTES * len(pairs) // max(size, 1)
        at_once = max(1, min(_MOST, 2 * at_once, foreseen))


def _read(source: Store, keys: Sequence[str]) -> Sequence[bytes | StoreError | None]:
    try:
        return patiently(lambda: source.read(keys))
    except StoreError:
        return read_each(source, keys)


def ahead(batches: Iterable[T]) -> Generator[T]:
    """Give what an iterator gives, and let it work on the next one meanwhile, in a thread."""
    remaining = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="askonce-transfer") as pool:
        coming = pool.submit(next, remaining, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, remaining, None)
            yield batch


def _stays(key: str, theirs: bytes, ours: bytes, existing: Existing, now: float) -> bool:
    """Tell whether what is there stays, although it is other."""
    if damage_of(theirs) or entry.has_expired(theirs, now=now):
        return False
    if existing == "keep":
        return True
    # The epoch of a tag never goes back, or answers that were retired would come back to life.
    is_epoch = key.split("/", 2)[1:2] == ["tag"]
    return (existing == "newer" or is_epoch) and _created(theirs) > _created(ours)


def _created(value: bytes) -> float:
    """Tell when an entry was made; what has no time comes before all that has."""
    times = entry.times_of(value)
    return -1.0 if times is None else times[0]


def _end(value: bytes) -> float:
    times = entry.times_of(value)
    return entry.NEVER if times is None or math.isnan(times[1]) else times[1]


def _by_end(entries: Mapping[str, bytes], now: float) -> Iterator[tuple[float, dict[str, bytes]]]:
    """Group entries that end at about the same time; give with each the last of their ends."""
    ends = {key: _end(value) for key, value in entries.items()}
    group: dict[str, bytes] = {}
    until = last = -1.0
    for key in sorted(entries, key=ends.__getitem__):
        if group and ends[key] > until:
            yield last, group
            group = {}
        if not group:
            until = ends[key] + (ends[key] - now) / _LATER
        group[key] = entries[key]
        last = ends[key]
    if group:
        yield last, group
