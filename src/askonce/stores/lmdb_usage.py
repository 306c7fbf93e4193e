"""The limit of an LMDB store: a second tree of what was used when, and giving up the oldest.

Deleting frees only pages that become empty; the gaps in others are filled by what comes. So a
store is above its limit only once it holds again as many entries as fitted before, or is well
above it.
"""

import struct
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from askonce.stores.usage import LOW_WATER, patience

TREE = b"\1usage"
"""The name of the second tree, which LMDB keeps among the keys of the first."""

_META = b"\1meta"
_META_LAYOUT = struct.Struct("<dq")
_TIME = struct.Struct("<d")
_TOLERANCE = 1.05
_UNKNOWN = 2**63 - 1
_VICTIMS_AT_ONCE = 100_000


def note_written(transaction: Any, tree: Any, keys: Collection[bytes]) -> None:
    """Note within a transaction that these were just written."""
    now = _TIME.pack(time.time())
    for key in keys:
        transaction.put(key, now, db=tree)
    if transaction.get(_META, db=tree) is None:
        transaction.put(_META, _META_LAYOUT.pack(time.time(), _UNKNOWN), db=tree)


def note_read(environment: Any, tree: Any, keys: set[bytes]) -> None:
    """Note that these were read, unless that was noted lately."""
    now = time.time()
    with environment.begin(db=tree) as transaction:
        half_since, _ = _meta(transaction, tree)
        cutoff = now - patience(now, half_since)
        stale = [key for key in keys if _used(transaction, tree, key) < cutoff]
    if stale:
        with environment.begin(write=True) as transaction:
            for key in stale:
                if transaction.get(key) is not None:
                    transaction.put(key, _TIME.pack(now), db=tree)


def occupied(environment: Any, tree: Any) -> int:
    """Tell how many bytes of pages are in use."""
    with environment.begin() as transaction:
        return _occupied(transaction, tree)


def _occupied(transaction: Any, tree: Any) -> int:
    return sum(
        found["psize"] * (found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"])
        for found in (transaction.stat(), transaction.stat(tree))
    )


def too_many(environment: Any, tree: Any, max_bytes: int, *, strictly: bool) -> int:
    """Tell how many entries have to go; `strictly` does not wait for gaps to be filled."""
    size = occupied(environment, tree)
    if size <= max_bytes:
        return 0
    with environment.begin() as transaction:
        _, full = _meta(transaction, tree)
        count = transaction.stat()["entries"]
    if not strictly and count < full and size <= max_bytes * _TOLERANCE:
        return 0
    return int(count - _full(count, size, max_bytes) * LOW_WATER) + 1


def victims(
    environment: Any, tree: Any, count: int, max_bytes: int, spared: Collection[bytes]
) -> tuple[list[bytes], float]:
    """Give the keys of the least recently used entries, and when the last of them was used.

    Learns by the way how many entries fit, and since when half of them were used.
    """
    size = occupied(environment, tree)
    with environment.begin() as transaction:
        found = transaction.stat()["entries"]
        times = np.fromiter((used for _, used in _all(transaction, tree)), np.float64)
        if not times.size:
            return [], 0.0
        enough = min(count, times.size, _VICTIMS_AT_ONCE)
        cutoff = float(np.partition(times, enough - 1)[enough - 1])
        oldest = sorted((used, key) for key, used in _all(transaction, tree) if used <= cutoff)
        keys = [key for _, key in oldest[:enough] if key not in spared]
    with environment.begin(write=True) as transaction:
        meta = _META_LAYOUT.pack(float(np.median(times)), int(_full(found, size, max_bytes)))
        transaction.put(_META, meta, db=tree)
    return keys, cutoff


def give_up(
    environment: Any, tree: Any, keys: Sequence[bytes], cutoff: float, max_bytes: int
) -> int:
    """Delete those of the keys that were not used meanwhile, until all is well; tell how many."""
    count = 0
    with environment.begin(write=True) as transaction:
        for key in keys:
            if _occupied(transaction, tree) <= max_bytes * LOW_WATER:
                break
            if _used(transaction, tree, key) <= cutoff:
                count += transaction.delete(key)
                transaction.delete(key, db=tree)
    return count


def forget_strays(environment: Any, tree: Any) -> None:
    """Forget what is noted of entries that are not there any more."""
    with environment.begin() as transaction, transaction.cursor(tree) as cursor:
        noted = (key for key in cursor.iternext(values=False) if not key.startswith(b"\1"))
        strays = [key for key in noted if transaction.get(key) is None]
    if strays:
        with environment.begin(write=True) as transaction:
            for key in strays:
                transaction.delete(key, db=tree)


def _full(count: int, size: int, max_bytes: int) -> float:
    return count * max_bytes / size


def _meta(transaction: Any, tree: Any) -> tuple[float, int]:
    found = transaction.get(_META, db=tree)
    if found is None:
        return 0.0, _UNKNOWN
    half_since, full = _META_LAYOUT.unpack(found)
    return half_since, full


def _used(transaction: Any, tree: Any, key: bytes) -> float:
    """Tell when an entry was used; one that is not noted was written without a limit."""
    found = transaction.get(key, db=tree)
    return 0.0 if found is None else _TIME.unpack(found)[0]


def _all(transaction: Any, tree: Any) -> Iterator[tuple[bytes, float]]:
    """Give every entry's key and when it was used, in one pass through both trees."""
    with transaction.cursor() as cursor, transaction.cursor(tree) as noted:
        more = noted.first()
        if not cursor.set_range(b"\2"):
            return
        for key in cursor.iternext(values=False):
            while more and noted.key() < key:
                more = noted.next()
            yield key, _TIME.unpack(noted.value())[0] if more and noted.key() == key else 0.0
