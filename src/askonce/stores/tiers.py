"""What two tiers do together, as plans for either colour: a near store over a far one."""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from askonce.core import entry
from askonce.core.entry import NEVER
from askonce.core.store import Store
from askonce.errors import StoreError, StoreRefusedError, StoreUnavailableError
from askonce.events import Event
from askonce.stores.fills import Fills
from askonce.stores.memory import MemoryStore
from askonce.stores.outbox import Outbox
from askonce.stores.retired import Retirement
from askonce.stores.retiring import JOURNAL, Retiring, is_tag
from askonce.stores.sending import Sending
from askonce.stores.steps import Do, Plan, do

Values = Sequence[bytes | None]

_ABSENT_FOR = 600.0
_MOST_ABSENT = 100_000
_END = slice(16, 24)
_DOUBLE = struct.Struct("<d")
_NO_END = _DOUBLE.pack(NEVER)
_FEW = 16
"""So many values joined to a block are looked at one by one faster than as an array."""


class Tiers:
    """Join a near and a far store; see `TieredStore`."""

    def __init__(
        self,
        near: Store,
        far: Store,
        outbox: Outbox,
        news: deque[Event],
        *,
        fresh_within: float,
        near_ttl: float | None,
        clock: Callable[[], float],
        wake: Callable[[], None],
        below: Retiring | None,
    ) -> None:
        self.near = near
        self.far = far
        self.outbox = outbox
        self.fills = Fills()
        self.retiring = Retiring(
            near,
            far,
            self.fills,
            fresh_within=fresh_within,
            near_ttl=near_ttl,
            clock=clock,
            below=below,
        )
        self.sending = Sending(
            outbox, near, far, self.fills, self.retiring, clock=clock, note=self.note
        )
        self.clock = clock
        # A memory that only we fill holds nothing that ends until we put it there.
        self.may_end = not isinstance(near, MemoryStore) or bool(near.size())
        self._news = news
        self._wake = wake
        self._absent: dict[str, float] = {}

    def note(self, error: StoreError) -> None:
        """Let the next flow tell of a failure that nobody else is going to hear of."""
        if not isinstance(error, StoreUnavailableError):
            self._news.append(Event("store_failed", error=error))

    def look(self, now: float) -> Plan[None]:
        """Drop what other hosts retired; a far store that cannot be asked leaves all as it is."""
        try:
            yield from self.retiring.look(now)
        except StoreError as error:
            self.retiring.postpone(now)
            self.note(error)

    def flush(self) -> Plan[None]:
        """Send what waits, and have both bring to its place what they hold on to."""
        yield from self.sending.send()
        yield do(self.near, "flush")
        yield do(self.far, "flush")

    def meet(self) -> Plan[None]:
        """Follow other hosts and send what waits, before both are listed. Raises StoreError."""
        yield from self.sending.send()
        yield from self.retiring.look(self.clock())

    def complete(self, keys: Sequence[str], values: Values, now: float) -> Plan[list[bytes | None]]:
        """Ask the far store for what the near one lacks, or has only beyond its end."""
        lacking = {
            key: value
            for key, value in zip(keys, values, strict=True)
            if value is None or entry.has_expired(value, now=now)
        }
        if not lacking:
            return list(values)
        with self.fills.begin(lacking) as fill:
            found = yield from self._waiting(list(lacking))
            asked = [key for key in lacking if key not in found]
            if asked:
                got = yield from self._ask_far(asked)
                found |= got
                self._remember_absent(got, now)
                yield from self._fill(fill, got, lacking)
        return [found.get(key, value) for key, value in zip(keys, values, strict=True)]

    def _ask_far(self, keys: Sequence[str]) -> Plan[dict[str, bytes | None]]:
        """Read from the far store; nothing at all is known if it cannot be asked."""
        try:
            values = yield do(self.far, "read", keys)
        except StoreError as error:
            self.note(error)
            return {}
        return dict(zip(keys, values, strict=True))

    def _waiting(self, keys: Sequence[str]) -> Plan[dict[str, bytes | None]]:
        if self._is_idle():
            return {}
        try:
            waiting: dict[str, bytes | None] = yield do(self.outbox, "find", keys)
        except StoreError as error:
            self.note(error)
            return {}
        return waiting

    def _remember_absent(self, got: Mapping[str, bytes | None], now: float) -> None:
        absent = self._absent
        for key, value in got.items():
            if value is None or entry.has_expired(value, now=now):
                absent[key] = now
        while len(absent) > _MOST_ABSENT:
            with contextlib.suppress(RuntimeError):  # another thread changes it, too
                absent.pop(next(iter(absent), ""), None)

    def _fill(
        self, fill: set[str], got: Mapping[str, bytes | None], lacking: Mapping[str, bytes | None]
    ) -> Plan[None]:
        """Put into the near store what the far one has, but nothing that changed meanwhile."""
        by_end: dict[float, dict[str, bytes]] = {}
        drop = [key for key, value in got.items() if value is None and lacking[key] is not None]
        for key, value in got.items():
            if value is not None and key in fill:
                by_end.setdefault(_end_of(value), {})[key] = value
        self.may_end |= any(end != NEVER for end in by_end)
        for end, entries in by_end.items():
            refused = yield from self._try(do(self.near, "write", entries, expires=end))
            drop += [key for key in entries if refused or key not in fill]
        if drop:
            yield from self._try(do(self.near, "delete", drop))

    def write(self, entries: Mapping[str, bytes], expires: float) -> Plan[None]:
        """Write to both, later if need be. Raises StoreError if neither took it."""
        now = self.clock()
        self.may_end |= expires != NEVER
        replaced = self._not_known_absent(entries, now)
        with self.fills.hold(entries):
            near_error = yield from self._try(do(self.near, "write", entries, expires=expires))
            if near_error is not None:
                # An older value must not be given in place of one that did not get in.
                yield from self._try(do(self.near, "delete", list(entries)))
            later = do(self.outbox, "queue", entries, expires=expires, now=now)
            try:
                if self._is_idle():
                    yield do(self.far, "write", entries, expires=expires)
                    yield from self.retiring.retire([Retirement(key, now) for key in replaced])
                    return
            except StoreRefusedError as error:
                if near_error is not None:
                    raise
                self.note(error)
                return
            except StoreError as error:
                self.note(error)
                if near_error is not None and not isinstance(near_error, StoreRefusedError):
                    raise StoreError(
                        f"neither tier took the entries; the near one: {near_error}; "
                        f"the far one: {error}"
                    ) from error
            except asyncio.CancelledError:
                # It may have been done, and nobody told of it.
                yield from self._try(later)
                self._wake()
                raise
            unqueued = yield from self._try(later)
            self._wake()
            if unqueued is not None:
                if near_error is not None:
                    raise unqueued
                self.note(unqueued)

    def _not_known_absent(self, keys: Collection[str], now: float) -> list[str]:
        """Give the keys under which the far store may have something that others hold, too.

        The epochs of tags belong to them always: two hosts that begin one at the same moment must
        come to agree.
        """
        absent = self._absent
        return [
            key
            for key in keys
            if not now - absent.pop(key, -_ABSENT_FOR) < _ABSENT_FOR or is_tag(key)
        ]

    def delete(self, keys: Sequence[str]) -> Plan[None]:
        """Delete from both. Raises StoreError if one failed; the far one's turn comes later."""
        now = self.clock()
        later = do(self.outbox, "queue_delete", keys, now=now)
        with self.fills.hold(keys):
            near_error = yield from self._try(do(self.near, "delete", keys))
            yield from self._remove(self._delete_far(keys, now), later)
        if near_error is not None:
            raise near_error

    def clear(self, prefix: str) -> Plan[int]:
        """Clear both and tell how many keys the far store had. Raises StoreError like `delete`."""
        now = self.clock()
        later = do(self.outbox, "queue_clear", prefix, now=now)
        with self.fills.hold(prefix=prefix):
            near_error = yield from self._try(do(self.near, "clear", prefix))
            count = yield from self._remove(self._clear_far(prefix, now), later)
        if near_error is not None:
            raise near_error
        return count

    def _remove(self, work: Plan[int], later: Do) -> Plan[int]:
        """Remove from the far store; what cannot be done now is queued, and told the caller."""
        try:
            yield from self.sending.send()
            return (yield from work)
        except StoreRefusedError:
            raise
        except StoreError as error:
            self.note(error)
            yield later
            self._wake()
            raise StoreError(
                f"deleted from the near tier only, for the far one failed: {error}. It waits, and "
                "is deleted there when that is back; until then other hosts may find it"
            ) from error
        except asyncio.CancelledError:
            yield from self._try(later)
            self._wake()
            raise

    def _delete_far(self, keys: Sequence[str], now: float) -> Plan[int]:
        yield do(self.far, "delete", keys)
        yield from self.retiring.retire([Retirement(key, now) for key in keys])
        return len(keys)

    def _clear_far(self, prefix: str, now: float) -> Plan[int]:
        """Clear, and tell how many keys that were, not counting our own."""
        journal: bytes | None = None
        if self.retiring.tells and JOURNAL.startswith(prefix):
            (journal,) = yield do(self.far, "read", [JOURNAL])
        count: int = yield do(self.far, "clear", prefix)
        yield from self.retiring.retire([Retirement(prefix, now, is_prefix=True)])
        return count - (journal is not None)

    def _is_idle(self) -> bool:
        """Tell whether nothing waits: a write must not overtake an older one that does."""
        try:
            return self.outbox.is_empty()
        except StoreError as error:
            self.note(error)
            return True

    def _try(self, step: Do) -> Plan[StoreError | None]:
        """Do something without which one can go on; give the error that it failed with."""
        try:
            yield step
        except StoreError as error:
            if not isinstance(error, StoreRefusedError):
                self.note(error)
            return error
        return None


def _end_of(value: bytes) -> float:
    times = entry.times_of(value)
    return NEVER if times is None else times[1]


def may_have_ended(values: Iterable[bytes | None], now: float) -> bool:
    """Tell whether one of these values may be an entry beyond its end.

    Many have the same end, most of them none: that is seen without reading their headers.
    """
    known = _NO_END
    for value in values:
        if value is None:
            continue
        end = value[_END]
        if end != known:
            if len(end) < _DOUBLE.size or _DOUBLE.unpack(end)[0] <= now:
                return True
            known = end
    return False


def block_may_have_ended(block: bytes, count: int, now: float) -> bool:
    """Tell whether one of the values joined to this block may be an entry beyond its end."""
    length = len(block) // max(count, 1)
    if length < entry.HEADER_LENGTH:
        return False
    if count < _FEW:
        return may_have_ended((block[at : at + 24] for at in range(0, len(block), length)), now)
    headers = entry.headers_of(np.frombuffer(block, np.uint8).reshape(count, length))
    return bool((headers["expires"] <= now).any())
