"""Tags: names that retire all entries which have them, at once.

A tag has an epoch, kept under a key of its own. An entry names its tags with their epochs, and is
given only as long as these are the same.
"""

import secrets
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from askonce.core import codecs, entry
from askonce.core.flow import Read, Step, Write
from askonce.core.keys import namespace_prefix, segment


def are_current(namespace: str, tags: Mapping[str, str]) -> Generator[Step, Any, bool]:
    """Tell whether all tags have still the epochs that an entry names."""
    if not tags:
        return True
    return (yield from _read(namespace, tags)) == tags


def epochs_of(namespace: str, tags: Iterable[str], now: float) -> Generator[Step, Any, Any]:
    """Give the epoch of each tag, beginning one where there is none.

    A tag whose epoch got lost thereby retires its entries, never the reverse.
    """
    names = list(tags)
    if not names:
        return {}
    epochs = yield from _read(namespace, names)
    begun = [name for name, epoch in epochs.items() if not epoch]
    if begun:
        yield Write(new_epochs(namespace, begun, now))
        # Of several who begin one at the same moment, the last decides.
        epochs = yield from _read(namespace, names)
    # An epoch that cannot be kept is one of its own, which nothing has.
    return {name: epoch or secrets.token_hex(8) for name, epoch in epochs.items()}


def new_epochs(namespace: str, tags: Iterable[str], now: float) -> dict[str, bytes]:
    """Give the entries that begin a new epoch for each tag."""
    return {
        _key(namespace, tag): entry.pack(
            entry.Entry(secrets.token_hex(8).encode(), codecs.JSON, now)
        )
        for tag in tags
    }


def _read(namespace: str, tags: Iterable[str]) -> Generator[Step, Any, dict[str, str]]:
    names = list(tags)
    blobs = yield Read([_key(namespace, name) for name in names])
    return {name: _epoch(blob) for name, blob in zip(names, blobs, strict=True)}


def _key(namespace: str, tag: str) -> str:
    return f"{namespace_prefix(namespace)}tag/{segment(tag)}"


def _epoch(blob: bytes | None) -> str:
    found = entry.unpack(blob) if blob else None
    return found.payload.decode(errors="replace") if found else ""
