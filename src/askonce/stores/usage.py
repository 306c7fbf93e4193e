"""What the stores with a limit have in common: what was used when, and how often that is noted.

An access is noted only if what is noted is older than a quarter of the time since which half of
the entries were used, an hour at most. So an entry in use is noted long before its turn to go
comes, and one that is read all the time costs next to nothing.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from askonce.core import fork
from askonce.errors import InputError, StoreError, StoreRefusedError

T = TypeVar("T")

LOW_WATER = 0.9
"""A store above its limit is brought down to this part of it, so that it is seldom above."""

_LEAST = 1024**2
_LONGEST_PATIENCE = 3600.0
_NOTE_AT_ONCE = 4096
_NOTE_AFTER = 10.0


def check_limit(max_bytes: int | None) -> int | None:
    """Check the most bytes that a store on disk may take. Raises InputError."""
    if max_bytes is not None and max_bytes < _LEAST:
        raise InputError(f"max_bytes is {max_bytes}; a store on disk needs at least 1MiB")
    return max_bytes


def patience(now: float, half_since: float) -> float:
    """Tell for how many seconds what is noted of an entry need not be noted again."""
    return min(_LONGEST_PATIENCE, max(0.0, now - half_since) / 4)


def fitting(entries: Mapping[str, bytes], max_bytes: int) -> Mapping[str, bytes]:
    """Leave out the entries that alone are above the limit."""
    if all(len(value) <= max_bytes for value in entries.values()):
        return entries
    return {key: value for key, value in entries.items() if len(value) <= max_bytes}


def refuse_the_rest(
    entries: Mapping[str, bytes], written: Mapping[str, bytes], max_bytes: int
) -> None:
    """Raise StoreRefusedError if something was not written."""
    refused = [key for key in entries if key not in written]
    if refused:
        raise StoreRefusedError(
            f"{len(refused)} of {len(entries)} entries were not stored: {refused[0]!r} has "
            f"{len(entries[refused[0]])} bytes, and max_bytes is {max_bytes}; raise max_bytes"
        )


class Touches(Generic[T]):
    """Gather what was read, and hand it to `note` from time to time, whose failures are let be."""

    def __init__(self, note: Callable[[set[T]], None]) -> None:
        self._note = note
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._touched: set[T] = set()
        self._due = time.monotonic() + _NOTE_AFTER

    def add(self, touched: Iterable[T]) -> None:
        """Remember what was read."""
        with self._lock:
            self._touched.update(touched)
            due = len(self._touched) >= _NOTE_AT_ONCE or time.monotonic() > self._due
        if due:
            self.flush()

    def flush(self) -> None:
        """Note what was read."""
        with self._lock:
            touched, self._touched = self._touched, set()
            self._due = time.monotonic() + _NOTE_AFTER
        if touched:
            with contextlib.suppress(StoreError):
                self._note(touched)
