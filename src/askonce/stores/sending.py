"""Send what waited for a far store, unless what is there by now is newer."""

import time
from collections.abc import Callable, Mapping, Sequence

from askonce.core import entry
from askonce.core.store import Store
from askonce.errors import StoreError, StoreRefusedError
from askonce.stores.fills import Fills
from askonce.stores.outbox import Outbox, Parcel
from askonce.stores.retired import Retirement
from askonce.stores.retiring import Retiring, is_own, is_tag
from askonce.stores.steps import Plan, do, list_keys, rest

_TURN_EVERY = 0.02
_AT_ONCE = 500


class Sending:
    """Empty an outbox into a far store, one parcel after the other, and tell other hosts.

    `note` is told what the far store refuses for good. Times are those of `clock`, since 1970.
    """

    def __init__(
        self,
        outbox: Outbox,
        near: Store,
        far: Store,
        fills: Fills,
        retiring: Retiring,
        *,
        clock: Callable[[], float],
        note: Callable[[StoreError], None],
    ) -> None:
        self._outbox = outbox
        self._near = near
        self._far = far
        self._fills = fills
        self._retiring = retiring
        self._clock = clock
        self._note = note

    def send(self, patience: float = 5.0) -> Plan[None]:
        """Send all that waits. Raises StoreError if the far store fails.

        `patience` is for how many seconds to wait for another thread or process that sends.
        """
        until = time.monotonic() + patience
        while not self._outbox.is_empty():
            with self._outbox.turn() as mine:
                while mine and (parcel := (yield do(self._outbox, "first"))) is not None:
                    yield from self._deliver(parcel)
                    yield do(self._outbox, "sent", parcel)
            if not mine:
                if time.monotonic() > until:
                    raise StoreError(
                        "another process sends what waits for the far store and does not come to "
                        "an end; see what keeps it"
                    )
                yield rest(_TURN_EVERY)

    def _deliver(self, parcel: Parcel) -> Plan[None]:
        try:
            if parcel.kind == "write":
                yield from self._write(parcel)
            elif parcel.kind == "delete":
                yield from self._delete(parcel.keys, parcel.queued)
                yield from self._retiring.retire(_retirements(parcel))
            else:
                keys: Sequence[str] = yield list_keys(self._far, parcel.keys[0])
                keys = [key for key in keys if not is_own(key)]
                for start in range(0, len(keys), _AT_ONCE):
                    part = keys[start : start + _AT_ONCE]
                    yield from self._delete(part, parcel.queued * len(part))
                yield from self._retiring.retire(_retirements(parcel, are_prefixes=True))
        except StoreRefusedError as error:
            self._note(error)

    def _write(self, parcel: Parcel) -> Plan[None]:
        there = yield do(self._far, "read", parcel.keys)
        journal = yield from self._retiring.journal()
        now = self._clock()
        fresh: dict[str, bytes] = {}
        told: list[Retirement] = []
        outdated: list[str] = []
        for place, key in enumerate(parcel.keys):
            value, found = parcel.values[place] or b"", there[place]
            queued = parcel.queued[place]
            if found != value:
                if _is_newer(found, value, queued) or journal.retired_after(key, queued):
                    outdated.append(key)
                    continue
                if entry.has_expired(value, now=now):
                    continue
                fresh[key] = value
            if found is not None or parcel.tell[place] or is_tag(key):
                told.append(Retirement(key, queued))
        yield from self._write_each(fresh, parcel.expires)
        yield from self._retiring.retire(told)
        if outdated:
            with self._fills.hold(outdated):
                yield do(self._near, "delete", outdated)

    def _write_each(self, entries: Mapping[str, bytes], expires: float) -> Plan[None]:
        """Write all, or one by one if some are refused."""
        if not entries:
            return
        try:
            yield do(self._far, "write", entries, expires=expires)
        except StoreRefusedError as error:
            if len(entries) == 1:
                self._note(error)
                return
            for key, value in entries.items():
                yield from self._write_each({key: value}, expires)

    def _delete(self, keys: Sequence[str], queued: Sequence[float]) -> Plan[None]:
        """Delete what is not newer than the wish to do so."""
        there: Sequence[bytes | None] = yield do(self._far, "read", keys)
        gone = [
            key
            for key, found, when in zip(keys, there, queued, strict=True)
            if found is not None and not _is_newer(found, None, when)
        ]
        if gone:
            yield do(self._far, "delete", gone)


def _retirements(parcel: Parcel, *, are_prefixes: bool = False) -> list[Retirement]:
    """Tell of removals as of the time when they were wanted: later writes are not meant."""
    return [
        Retirement(key, queued, are_prefixes)
        for key, queued in zip(parcel.keys, parcel.queued, strict=True)
    ]


def _is_newer(found: bytes | None, value: bytes | None, queued: float) -> bool:
    """Tell whether an entry that is there was made after the one that waited, or after `queued`.

    Of a value that is no entry of ours that is not known.
    """
    times = None if found is None else entry.times_of(found)
    mine = None if value is None else entry.times_of(value)
    return times is not None and times[0] > (queued if mine is None else mine[0])
