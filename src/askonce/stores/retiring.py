"""Follow what other hosts retire in a far store, and tell them what is retired here."""

import contextlib
import secrets
import time
from collections.abc import Callable, Collection

from askonce.core.keys import RESERVED
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.stores.fills import Fills
from askonce.stores.retired import Journal, Retirement, Seen
from askonce.stores.steps import Plan, do, rest

JOURNAL = RESERVED + "retired"
SEEN = RESERVED + "seen"

_LEASE_SECONDS = 3.0
_SHORT = _LEASE_SECONDS / 2
_AGAIN = 1.0
_FIRST_WAIT = 0.005
_LONGEST_WAIT = 0.1


class Retiring:
    """Look into the far store's journal every `fresh_within` seconds, as long as one reads.

    What it says was retired is dropped from the near store; all of it if that is not known, and
    every `near_ttl` seconds. Times are those of `clock`, seconds since 1970.

    Over a far store that has tiers itself, `below` is how those follow: one journal is for all,
    and they are the ones who write it.
    """

    def __init__(
        self,
        near: Store,
        far: Store,
        fills: Fills,
        *,
        fresh_within: float,
        near_ttl: float | None,
        clock: Callable[[], float],
        below: "Retiring | None" = None,
    ) -> None:
        self._near = near
        self.far: Store = far if below is None else below.far
        self.tells = below is None
        self._below = below
        self._fills = fills
        self._fresh_within = fresh_within
        self._near_ttl = near_ttl
        self._clock = clock
        self._seen: Seen | None = None
        self.looked = self.due = 0.0
        """The near store may be read without looking first from `looked` until before `due`."""

    def look(self, now: float) -> Plan[None]:
        """Drop from the near store what was retired since the last look. Raises StoreError."""
        journal = yield from self.journal()
        if self._below is not None:
            # Else what is dropped here could come back from there.
            yield from self._below.look(now)
        (record,) = yield do(self._near, "read", [SEEN])
        kept = Seen.unpack(record)
        known = self._seen or kept or Seen("", journal.count - len(journal.recent), now)
        # A far store that forgot its journal forgot no retirement that we have not followed.
        news = journal.unseen(known.name, known.count) if journal.name else ()
        if news is not None and self._seen is None:
            # Whoever followed before us may have died amid putting back what was retired.
            news = journal.recent
        since = known.since
        if self._near_ttl is not None and not 0 <= now - since < self._near_ttl:
            news = None
        if news is None:
            since = now
            news = (Retirement("", now, is_prefix=True),)
        yield from self._drop(news)
        self._seen = Seen(journal.name, journal.count, since)
        if self._seen != kept or news:
            yield do(self._near, "write", {SEEN: self._seen.pack(now)})
        self.looked, self.due = now, now + self._fresh_within

    def postpone(self, now: float) -> None:
        """Look again in a while, after one look failed."""
        self.looked, self.due = now, now + min(self._fresh_within, _AGAIN)

    def _drop(self, retired: Collection[Retirement]) -> Plan[None]:
        keys = [one.text for one in retired if not one.is_prefix]
        if keys:
            with self._fills.hold(keys):
                yield do(self._near, "delete", keys)
        for prefix in {one.text for one in retired if one.is_prefix}:
            with self._fills.hold(prefix=prefix):
                yield do(self._near, "clear", prefix)

    def retire(self, retirements: Collection[Retirement]) -> Plan[None]:
        """Tell all hosts, this one too, to drop keys from their near stores. Raises StoreError."""
        if not retirements or not self.tells:
            return
        leases = self.far.leases
        holder = secrets.token_hex(8)
        if leases is not None:
            yield from _take(leases, holder)
        begun = time.monotonic()
        try:
            journal = yield from self.journal()
            # Two who change it at once lose a retirement, so where that may be all drop all.
            alone = leases is not None and time.monotonic() - begun < _SHORT
            journal = journal.grown(retirements, rename=not alone)
            yield do(self.far, "write", {JOURNAL: journal.pack(self._clock())})
        finally:
            if leases is not None:
                yield from _drop_quietly(leases, holder)

    def journal(self) -> Plan[Journal]:
        """Read the journal. Raises StoreError."""
        (blob,) = yield do(self.far, "read", [JOURNAL])
        return Journal.unpack(blob)


def _take(leases: Leases, holder: str) -> Plan[None]:
    """Take the right to change the journal, and wait for a dead holder's to run out."""
    pause, left = _FIRST_WAIT, _LEASE_SECONDS + 1
    while not (yield do(leases, "take", [JOURNAL], holder, _LEASE_SECONDS)):
        if left <= 0:
            raise StoreError(
                "other hosts could not be told what was retired, because one of them keeps the "
                "right to do so; try again"
            )
        yield rest(pause)
        left -= pause
        pause = min(2 * pause, _LONGEST_WAIT)


def _drop_quietly(leases: Leases, holder: str) -> Plan[None]:
    with contextlib.suppress(StoreError):  # it runs out by itself
        yield do(leases, "drop", [JOURNAL], holder)


def is_tag(key: str) -> bool:
    """Tell whether an entry is the epoch of a tag, which is always told when it is written.

    Two hosts that begin one at the same moment have to come to agree.
    """
    return key.split("/", 2)[1:2] == ["tag"]


def is_own(key: str) -> bool:
    """Tell whether a key is for what tiers keep for themselves in the stores that they join."""
    return key in (JOURNAL, SEEN)
