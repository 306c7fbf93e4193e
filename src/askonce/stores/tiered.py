"""Two tiers: a near store, of this process or host, over a far one that many hosts share."""

import asyncio
import contextlib
import functools
import os
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.core.table import cut
from askonce.errors import InputError, StoreError
from askonce.events import Event, log
from askonce.stores import Location, open_store
from askonce.stores.guarded import TIMEOUT, Guarded, news_of
from askonce.stores.outbox import MAX_BYTES, Outbox
from askonce.stores.retiring import Retiring, is_own
from askonce.stores.sender import Sender
from askonce.stores.steps import arun, run
from askonce.stores.tiered_leases import TieredLeases
from askonce.stores.tiers import Tiers, block_may_have_ended, may_have_ended

FRESH_WITHIN = 5.0
_OPTIONS = ("far", "fresh_within", "near_ttl", "outbox", "outbox_bytes")


class TieredStore(Store):
    """Read from the near store what it has, and let it fill up from the far one; write to both.

    What other hosts delete, overwrite or clear through their own tiers is no longer given here
    `fresh_within` seconds later, as long as the far store can be asked. The near store begins anew
    every `near_ttl` seconds, which bounds also what is changed in the far store by other ways.

    While the far store fails, reads give what is near. What is written then waits, up to
    `outbox_bytes`, in the file `outbox` (beside a near store on disk unless it is named, else in
    memory), and is sent as soon as the far store is back, but not over anything newer. A deletion
    waits, too, and raises StoreError, for others may still find what was to be deleted. `trouble`
    is what keeps the far store from being asked, None if it is well.

    `keys` are those of both, `size` is that of both, `clear`, `prune` and `evict` count what the
    far store had; all of them raise StoreError if it cannot be asked. Closing closes both stores.
    """

    def __init__(
        self,
        near: Store,
        far: Store,
        *,
        fresh_within: float = FRESH_WITHIN,
        near_ttl: float | None = None,
        outbox: str | os.PathLike[str] | None = None,
        outbox_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not fresh_within >= 0:
            raise InputError(f"fresh_within is {fresh_within!r}; give seconds, 0 or more")
        if near_ttl is not None and not near_ttl > 0:
            raise InputError(f"near_ttl is {near_ttl!r}; give seconds above 0, or None for ever")
        self.near = near
        self.far = far if isinstance(far, Guarded) else Guarded(far, lookup_timeout=TIMEOUT)
        below = self.far.store
        told = news_of(near, self.far)
        self.news = told
        self._outbox = Outbox(_beside(near) if outbox is None else Path(outbox), outbox_bytes)
        self._sender = Sender(self.flush, self._outbox.is_empty)
        self._tiers = Tiers(
            near,
            self.far,
            self._outbox,
            told,
            fresh_within=fresh_within,
            near_ttl=near_ttl,
            clock=clock,
            wake=self._sender.wake,
            below=below.retiring if isinstance(below, TieredStore) else None,
        )
        self.retiring: Retiring = self._tiers.retiring
        self._clock = clock
        self._closed = False
        if not self._outbox.is_empty():
            self._sender.wake()

    @classmethod
    def open(cls, location: Location) -> "TieredStore":
        """Open `tiered+sqlite:///near.db?far=URL`: any URL of a near store, and the far one's.

        The options `far`, `fresh_within`, `near_ttl`, `outbox` and `outbox_bytes` are the tiers',
        all others the near store's.
        """
        scheme = location.scheme.partition("+")[2]
        own = {name: location.options[name] for name in _OPTIONS if name in location.options}
        if not scheme or "far" not in own:
            raise InputError(
                "tiers are opened like tiered+sqlite:///near.db?far=URL or tiered+memory://?far=URL"
            )
        # A plus in a query stands for a space, which no scheme has.
        far_scheme, separator, far = own["far"].partition("://")
        rest = {name: text for name, text in location.options.items() if name not in own}
        query = "?" + urllib.parse.urlencode(rest) if rest else ""
        path = urllib.parse.quote(location.path)
        return tiered(
            f"{scheme}://{path}{query}",
            far_scheme.replace(" ", "+") + separator + far,
            fresh_within=location.seconds_option("fresh_within", FRESH_WITHIN),
            near_ttl=location.seconds_option("near_ttl", 1.0) if "near_ttl" in own else None,
            outbox=own.get("outbox"),
            outbox_bytes=location.size_option("outbox_bytes", MAX_BYTES),
        )

    @property
    def trouble(self) -> Exception | None:
        """Give the error that keeps the far store from being asked."""
        return self.far.trouble

    @functools.cached_property
    def leases(self) -> Leases | None:
        far, near = self.far.leases, self.near.leases
        return None if far is None and near is None else TieredLeases(far, near, self._tiers.note)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        tiers, now = self._tiers, self._clock()
        if not tiers.retiring.looked <= now < tiers.retiring.due:
            run(tiers.look(now))
        try:
            values = self.near.read(keys)
        except StoreError as error:
            values = self._without_near(error, keys)
        if all(values) and not (tiers.may_end and may_have_ended(values, now)):
            return values
        return run(tiers.complete(keys, values, now))

    def read_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        tiers, now = self._tiers, self._clock()
        if not tiers.retiring.looked <= now < tiers.retiring.due:
            run(tiers.look(now))
        values: bytes | list[bytes | None]
        try:
            values = self.near.read_joined(keys)
        except StoreError as error:
            values = self._without_near(error, keys)
        if isinstance(values, bytes):
            if not (tiers.may_end and block_may_have_ended(values, len(keys), now)):
                return values
            values = [*cut(values, len(keys))]
        elif all(values) and not (tiers.may_end and may_have_ended(values, now)):
            return values
        return run(tiers.complete(keys, values, now))

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        tiers, now = self._tiers, self._clock()
        if not tiers.retiring.looked <= now < tiers.retiring.due:
            await arun(tiers.look(now))
        try:
            values = await self.near.aread(keys)
        except StoreError as error:
            values = self._without_near(error, keys)
        if all(values) and not (tiers.may_end and may_have_ended(values, now)):
            return values
        return await arun(tiers.complete(keys, values, now))

    async def aread_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        tiers, now = self._tiers, self._clock()
        if not tiers.retiring.looked <= now < tiers.retiring.due:
            await arun(tiers.look(now))
        values: bytes | list[bytes | None]
        try:
            values = await self.near.aread_joined(keys)
        except StoreError as error:
            values = self._without_near(error, keys)
        if isinstance(values, bytes):
            if not (tiers.may_end and block_may_have_ended(values, len(keys), now)):
                return values
            values = [*cut(values, len(keys))]
        elif all(values) and not (tiers.may_end and may_have_ended(values, now)):
            return values
        return await arun(tiers.complete(keys, values, now))

    def _without_near(self, error: StoreError, keys: Sequence[str]) -> list[bytes | None]:
        self._tiers.note(error)
        return [None] * len(keys)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        run(self._tiers.write(entries, expires))

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        await arun(self._tiers.write(entries, expires))

    def delete(self, keys: Sequence[str]) -> None:
        run(self._tiers.delete(keys))

    async def adelete(self, keys: Sequence[str]) -> None:
        await arun(self._tiers.delete(keys))

    def clear(self, prefix: str) -> int:
        return run(self._tiers.clear(prefix))

    async def aclear(self, prefix: str) -> int:
        return await arun(self._tiers.clear(prefix))

    def flush(self) -> None:
        """Send what waits for the far store. Raises StoreError if that fails."""
        run(self._tiers.flush())

    async def aflush(self) -> None:
        """Send what waits without blocking the event loop."""
        await arun(self._tiers.flush())

    def keys(self, prefix: str = "") -> Iterator[str]:
        run(self._tiers.meet())
        near_only = {key for key in self.near.keys(prefix) if not is_own(key)}
        for key in self.far.keys(prefix):
            if not is_own(key):
                near_only.discard(key)
                yield key
        yield from near_only

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        await arun(self._tiers.meet())
        near_only = {key async for key in self.near.akeys(prefix) if not is_own(key)}
        async for key in self.far.akeys(prefix):
            if not is_own(key):
                near_only.discard(key)
                yield key
        for key in near_only:
            yield key

    def size(self) -> int:
        return self.near.size() + self.far.size()

    async def asize(self) -> int:
        return await self.near.asize() + await self.far.asize()

    def prune(self, now: float) -> int:
        self.near.prune(now)
        return self.far.prune(now)

    async def aprune(self, now: float) -> int:
        await self.near.aprune(now)
        return await self.far.aprune(now)

    def evict(self) -> int:
        self.near.evict()
        return self.far.evict()

    async def aevict(self) -> int:
        await self.near.aevict()
        return await self.far.aevict()

    def vacuum(self) -> None:
        self.near.vacuum()
        self.far.vacuum()

    async def avacuum(self) -> None:
        await self.near.avacuum()
        await self.far.avacuum()

    def diagnose(self) -> list[Finding]:
        """Tell what both engines know, and whether something waits for the far one."""
        findings = [replace(one, check=f"near {one.check}") for one in self.near.diagnose()]
        try:
            far = self.far.diagnose()
        except StoreError as error:
            far = [Finding("reach", str(error), "wrong", "see why the far store does not answer")]
        findings += [replace(one, check=f"far {one.check}") for one in far]
        if waiting := self._outbox.count():
            findings.append(
                Finding(
                    "outbox",
                    f"{waiting} changes wait for the far store",
                    "doubtful",
                    "they are sent while a program has the tiers open and the far store answers",
                )
            )
        return findings

    def close(self) -> None:
        """Send what waits, if that can be, and close both stores.

        What cannot be sent goes on waiting in a file, and is lost from memory, which is logged.
        """
        self._sender.stop()
        self._send_the_last()
        self.near.close()
        self.far.close()

    async def aclose(self) -> None:
        """Close without blocking the event loop; see `close`."""
        await asyncio.to_thread(self._sender.stop)
        await asyncio.to_thread(self._send_the_last)
        await self.near.aclose()
        await self.far.aclose()

    def _send_the_last(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        except StoreError as error:
            if self._outbox.path is None:
                lost = StoreError(f"what waited for the far store is lost, because {error}")
                log(Event("store_failed", error=lost))
        self._outbox.close()


def tiered(
    near: Store | str,
    far: Store | str,
    *,
    fresh_within: float = FRESH_WITHIN,
    near_ttl: float | None = None,
    outbox: str | os.PathLike[str] | None = None,
    outbox_bytes: int = MAX_BYTES,
) -> TieredStore:
    """Join a near store and a far one that many hosts share; see `TieredStore`.

    Both are URLs or Stores, and closed together with the tiers. Raises InputError for values that
    cannot be used, and what `open_store` raises.
    """
    with contextlib.ExitStack() as opened:
        stores: list[Store] = []
        for store in (near, far):
            stores.append(open_store(store))
            if isinstance(store, str):
                opened.callback(stores[-1].close)
        joined = TieredStore(
            *stores,
            fresh_within=fresh_within,
            near_ttl=near_ttl,
            outbox=outbox,
            outbox_bytes=outbox_bytes,
        )
        opened.pop_all()
    return joined


def _beside(near: Store) -> Path | None:
    """Name the outbox of a near store on disk."""
    path = getattr(near, "path", None) or getattr(near, "root", None)
    return path.with_name(path.name + ".outbox") if isinstance(path, Path) else None
