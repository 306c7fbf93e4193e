"""Looking after what any store holds: find damage, delete what is old."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from askonce.core import codecs, entry, flow
from askonce.core.keys import namespace_prefix
from askonce.core.store import Store
from askonce.errors import InputError, StoreError

__all__ = ["Damage", "Report", "prune", "verify"]

_AT_ONCE = 500

Progress = Callable[[int], None]
"""Hears how many more entries are done."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Tell which entry is damaged and how; `deleted` if it was repaired, which is to delete it."""

    key: str
    reason: str
    deleted: bool = False


@dataclass
class Report:
    """Count what a store holds: whole entries, values of others, damaged entries.

    `foreign` values are none of askonce's, like the JSON that LangChain writes.
    """

    whole: int = 0
    foreign: int = 0
    damaged: list[Damage] = field(default_factory=list[Damage])

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing damaged is left."""
        return all(damage.deleted for damage in self.damaged)


def verify(store: Store, *, repair: bool = False, progress: Progress = lambda _: None) -> Report:
    """Read every entry and check it against its checksum.

    `repair` deletes the damaged ones, which every cache treats as missing anyway; what cannot even
    be read is left alone, and so is what is foreign. Raises StoreError if the store cannot be
    listed or nothing in it can be read.
    """
    report = Report()
    for keys in _batches(store.keys()):
        found: dict[str, tuple[bytes, str]] = {}
        for key, value in zip(keys, read_each(store, keys), strict=True):
            if isinstance(value, StoreError):
                report.damaged.append(Damage(key, f"it cannot be read: {value}"))
            elif value is not None and (reason := damage_of(value)):
                found[key] = (value, reason)
            elif value is not None and value.startswith(entry.MAGIC):
                report.whole += 1
            elif value is not None:
                report.foreign += 1
        deleted = _delete_unchanged(store, found) if repair and found else set[str]()
        report.damaged += [Damage(key, found[key][1], key in deleted) for key in found]
        progress(len(keys))
    return report


def prune(
    store: Store,
    *,
    now: float | None = None,
    older_than: float | None = None,
    namespace: str | None = None,
    progress: Progress = lambda _: None,
) -> int:
    """Delete what has expired by `now`, and tell how many entries that were.

    `older_than` also deletes what was made more than so many seconds ago; `namespace` leaves
    everything else alone. Raises InputError, and StoreError.
    """
    if older_than is not None and not older_than > 0:
        raise InputError(f"older_than is {older_than!r}; give a number of seconds above 0")
    now = flow.now() if now is None else now
    if older_than is None and namespace is None:
        return store.prune(now)
    oldest = -math.inf if older_than is None else now - older_than
    count = 0
    for keys in _batches(store.keys("" if namespace is None else namespace_prefix(namespace))):
        old: list[str] = []
        for key, value in zip(keys, store.read(keys), strict=True):
            times = None if value is None else entry.times_of(value)
            if times is not None and (times[0] < oldest or times[1] <= now):
                old.append(key)
        store.delete(old)
        count += len(old)
        progress(len(keys))
    return count


def damage_of(value: bytes) -> str | None:
    """Say what is wrong with a value; None if nothing is, or it is foreign."""
    if not value:
        return "it is empty: its writer was killed, or the power failed"
    if not value.startswith(entry.MAGIC):
        return (
            None if value.strip(b"\0") else "it is all zeros: the power failed before its content"
        )
    found = entry.unpack(value)
    if found is None:
        return "its checksum does not fit" if _has_its_length(value) else "a part of it is missing"
    if found.codec in codecs.VECTORS:
        if not codecs.dimensions(len(found.payload), found.codec):
            return "its payload is no vector"
        row = codecs.decode(np.frombuffer(found.payload, np.uint8)[None], found.codec)
        if not np.isfinite(row).all():
            return "its vector holds NaN or infinity"
    return None


def _has_its_length(value: bytes) -> bool:
    if len(value) < entry.HEADER_LENGTH:
        return False
    (header,) = np.frombuffer(value[: entry.HEADER_LENGTH], entry.HEADER)
    parts = (int(header["meta_length"]), int(header["payload_length"]))
    return len(value) == entry.HEADER_LENGTH + sum((part + 7) // 8 * 8 for part in parts)


def read_each(store: Store, keys: Sequence[str]) -> Sequence[bytes | StoreError | None]:
    """Read a batch, one by one if it cannot be read together."""
    try:
        return store.read(keys)
    except StoreError:
        values: list[bytes | StoreError | None] = []
        for key in keys:
            try:
                values += store.read([key])
            except StoreError as error:
                values.append(error)
        if all(isinstance(value, StoreError) for value in values):
            raise
        return values


def _delete_unchanged(store: Store, found: dict[str, tuple[bytes, str]]) -> set[str]:
    """Delete damaged entries, but none that was written anew meanwhile."""
    keys = list(found)
    unchanged = {
        key
        for key, value in zip(keys, store.read(keys), strict=True)
        if value is None or value == found[key][0]
    }
    store.delete(sorted(unchanged))
    return unchanged


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, _AT_ONCE)):
        yield batch
