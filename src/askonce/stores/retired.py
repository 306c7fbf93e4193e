"""The journal of what was retired in a shared store, which every host's near tier follows.

It is one entry of the shared store, and holds the last retirements: keys that were deleted or
overwritten, and prefixes that were cleared. Who finds that more happened than it still holds, or
finds another journal than before, cannot know what was retired and drops everything.
"""

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from askonce.core import codecs, entry

_VERSION = 1
_MOST_BYTES = 32768
_OVERHEAD = 32
"""Bytes that a retirement takes besides its text."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """Tell that a key, or all that start with a prefix, was retired at a time (since 1970)."""

    text: str
    when: float
    is_prefix: bool = False

    def covers(self, key: str) -> bool:
        """Tell whether this key was retired by it."""
        return key.startswith(self.text) if self.is_prefix else key == self.text


@dataclass(frozen=True, slots=True)
class Journal:
    """Hold the `recent` ones of `count` retirements; one without a name is not there yet."""

    name: str = ""
    count: int = 0
    recent: tuple[Retirement, ...] = ()

    def unseen(self, name: str, count: int) -> tuple[Retirement, ...] | None:
        """Give what came after so many of a journal of this name; None if that is not known."""
        if name and name != self.name:
            return None
        missed = self.count - count
        if not 0 <= missed <= len(self.recent):
            return None
        return self.recent[len(self.recent) - missed :]

    def grown(self, retirements: Iterable[Retirement], *, rename: bool = False) -> "Journal":
        """Add retirements; under a new name, everybody drops everything."""
        added = tuple(retirements)
        room = _MOST_BYTES
        kept: list[Retirement] = []
        for retirement in reversed(self.recent + added):
            room -= len(retirement.text) + _OVERHEAD
            if room < 0:
                break
            kept.append(retirement)
        name = secrets.token_hex(8) if rename or not self.name else self.name
        return Journal(name, self.count + len(added), tuple(reversed(kept)))

    def retired_after(self, key: str, when: float) -> bool:
        """Tell whether a key is known to have been retired after this time."""
        return any(one.when > when and one.covers(key) for one in self.recent)

    def pack(self, now: float) -> bytes:
        """Write the journal as an entry."""
        fields = {
            "version": _VERSION,
            "name": self.name,
            "count": self.count,
            "recent": [(one.text, one.when, one.is_prefix) for one in self.recent],
        }
        return _pack(fields, now)

    @classmethod
    def unpack(cls, blob: bytes | None) -> "Journal":
        """Read a journal; what cannot be read is one that nobody has seen before."""
        if blob is None:
            return cls()
        try:
            fields = _unpack(blob)
            recent = tuple(
                Retirement(str(text), float(when), bool(is_prefix))
                for text, when, is_prefix in fields["recent"]
            )
            return cls(str(fields["name"]), int(fields["count"]), recent)
        except (ValueError, KeyError, TypeError):
            return cls(hashlib.sha256(blob).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold how far a near tier followed which journal, and since when it has been filling up."""

    name: str
    count: int
    since: float

    def pack(self, now: float) -> bytes:
        """Write it as an entry."""
        return _pack({"version": _VERSION} | dataclasses.asdict(self), now)

    @classmethod
    def unpack(cls, blob: bytes | None) -> "Seen | None":
        """Read it; None if it is not there or cannot be read."""
        try:
            fields = _unpack(blob or b"")
            return cls(str(fields["name"]), int(fields["count"]), float(fields["since"]))
        except (ValueError, KeyError, TypeError):
            return None


def _pack(fields: Mapping[str, object], now: float) -> bytes:
    return entry.pack(entry.Entry(json.dumps(fields).encode(), codecs.JSON, now))


def _unpack(blob: bytes) -> dict[str, Any]:
    found = entry.unpack(blob)
    if found is None:
        raise ValueError("no whole entry")
    fields: dict[str, Any] = json.loads(found.payload)
    if fields["version"] != _VERSION:
        raise ValueError("of another version")
    return fields
