"""A guard around a remote store: while it fails it is not asked, and that costs nothing."""

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

from askonce.core.breaker import Breaker
from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import InputError, StoreError, StoreRefusedError, StoreUnavailableError
from askonce.events import Event

LOOKUP_TIMEOUT = 0.05
TIMEOUT = 5.0
PROBE = "askonce/probe"
"""The key that is looked up to see whether a server is back; there is nothing under it."""

_DEADLINE_FOR = 1000
_GRACE = 0.01
_UNTOLD = 100


class Guarded(Store):
    """Ask a remote store only as long as it answers.

    One failure, a missed deadline or a broken connection, opens the breaker: from then on each
    verb raises StoreUnavailableError at once. After a pause of at most 0.1 seconds, which grows to
    5, one look-up goes through, and if it works everything does. A backend raises
    StoreRefusedError for what is no sign of a sick server.

    Sync verbs rely on the backend's own deadlines; async ones have these in addition, in seconds,
    for each thousand keys: `lookup_timeout` for reads and claims, `timeout` to write and delete. A
    remote backend's `open` returns `Guarded(cls(...), lookup_timeout=..., timeout=...)`.

    `trouble` is the error that keeps the store from being asked, None if it is well.
    """

    def __init__(
        self,
        store: Store,
        *,
        lookup_timeout: float = LOOKUP_TIMEOUT,
        timeout: float = TIMEOUT,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.lookup_timeout = lookup_timeout
        self.timeout = timeout
        self.trouble: Exception | None = None
        self.news = self._told = news_of(store)
        self._breaker = breaker or Breaker()
        self._clock = clock

    @functools.cached_property
    def leases(self) -> Leases | None:
        leases = self.store.leases
        return None if leases is None else GuardedLeases(leases, self)

    @contextlib.contextmanager
    def asking(self) -> Generator[None]:
        """Ask the store inside this block, or raise StoreUnavailableError; learn from how it ends.

        For a quick look-up: it may be the probe that all others wait for.
        """
        breaker = self._breaker
        admission = breaker.admit(self._clock())
        if admission == "refuse":
            raise self._unavailable()
        probing = admission == "probe"
        try:
            yield
        except StoreRefusedError:
            self._worked(probing=probing)
            raise
        except (StoreUnavailableError, InputError):
            if probing:
                breaker.gave_up(self._clock())
            raise
        except Exception as error:
            failure = self._failed(error, probing=probing)
            if failure is error:
                raise
            raise failure from error
        except BaseException:
            if probing:
                breaker.gave_up(self._clock())
            raise
        self._worked(probing=probing)

    def _failed(self, error: Exception, *, probing: bool) -> StoreError:
        """Give what is to be raised for a failure: only the one that opens the breaker is told."""
        opened = self._breaker.failed(self._clock(), probing=probing)
        if opened or probing:
            self.trouble = error
        if not opened:
            return self._unavailable()
        if isinstance(error, StoreError):
            return error
        return StoreError(f"the store failed: {type(error).__name__}: {error}")

    def _worked(self, *, probing: bool) -> None:
        if self._breaker.worked(probing=probing):
            self._told.append(Event("store_back", reason=f"it had failed: {self.trouble}"))
            self.trouble = None

    def _unavailable(self) -> StoreUnavailableError:
        left = self._breaker.seconds_left(self._clock())
        return StoreUnavailableError(
            f"the store is not asked for {left:.1f} seconds, because it failed: {self.trouble}"
        )

    @contextlib.contextmanager
    def working(self) -> Generator[None]:
        """Ask for more than a look-up, after one has shown that the store is well."""
        if not self._breaker.is_closed:
            self.read([PROBE])
        with self.asking():
            yield

    @contextlib.asynccontextmanager
    async def aworking(self) -> AsyncGenerator[None]:
        """Do as `working` does, without blocking the event loop."""
        if not self._breaker.is_closed:
            await self.aread([PROBE])
        with self.asking():
            yield

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        with self.asking():
            return self.store.read(keys)

    def read_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        with self.asking():
            return self.store.read_joined(keys)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        with self.working():
            self.store.write(entries, expires=expires)

    def delete(self, keys: Sequence[str]) -> None:
        with self.working():
            self.store.delete(keys)

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self.working():
            yield from self.store.keys(prefix)

    def clear(self, prefix: str) -> int:
        with self.working():
            return self.store.clear(prefix)

    def size(self) -> int:
        with self.working():
            return self.store.size()

    def prune(self, now: float) -> int:
        with self.working():
            return self.store.prune(now)

    def evict(self) -> int:
        with self.working():
            return self.store.evict()

    def vacuum(self) -> None:
        with self.working():
            self.store.vacuum()

    def flush(self) -> None:
        with self.working():
            self.store.flush()

    def diagnose(self) -> list[Finding]:
        with self.working():
            return self.store.diagnose()

    def close(self) -> None:
        self.store.close()

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        with self.asking():
            async with deadline(self.lookup_timeout, len(keys)):
                return await self.store.aread(keys)

    async def aread_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        with self.asking():
            async with deadline(self.lookup_timeout, len(keys)):
                return await self.store.aread_joined(keys)

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        async with self.aworking(), deadline(self.timeout, len(entries)):
            await self.store.awrite(entries, expires=expires)

    async def adelete(self, keys: Sequence[str]) -> None:
        async with self.aworking(), deadline(self.timeout, len(keys)):
            await self.store.adelete(keys)

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        async with self.aworking():
            async for key in self.store.akeys(prefix):
                yield key

    async def aclear(self, prefix: str) -> int:
        async with self.aworking():
            return await self.store.aclear(prefix)

    async def asize(self) -> int:
        async with self.aworking():
            return await self.store.asize()

    async def aprune(self, now: float) -> int:
        async with self.aworking():
            return await self.store.aprune(now)

    async def aevict(self) -> int:
        async with self.aworking():
            return await self.store.aevict()

    async def avacuum(self) -> None:
        async with self.aworking():
            await self.store.avacuum()

    async def aclose(self) -> None:
        await self.store.aclose()


def news_of(*stores: Store) -> deque[Event]:
    """Give the news of the last of these stores that has any to itself, for a layer to share."""
    told = [store.news for store in stores if isinstance(store.news, deque)]
    return told[-1] if told else deque(maxlen=_UNTOLD)


class GuardedLeases(Leases):
    """Claim in a remote store only as long as it answers."""

    def __init__(self, leases: Leases, guarded: Guarded) -> None:
        super().__init__(leases.seconds)
        self._leases = leases
        self._guarded = guarded

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        with self._guarded.asking():
            return self._leases.take(keys, holder, seconds)

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        with self._guarded.asking():
            self._leases.renew(keys, holder, seconds)

    def drop(self, keys: Sequence[str], holder: str) -> None:
        with self._guarded.asking():
            self._leases.drop(keys, holder)

    def claim(self, keys: Sequence[str]) -> list[str]:
        self._leases.seconds = self.seconds
        with self._guarded.asking():
            return self._leases.claim(keys)

    def release(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        try:
            with self._guarded.asking():
                self._leases.release(keys)
        finally:
            self._leases.lapse(keys)

    def lapse(self, keys: Iterable[str]) -> list[str]:
        return self._leases.lapse(keys)

    async def aclaim(self, keys: Sequence[str]) -> list[str]:
        self._leases.seconds = self.seconds
        with self._guarded.asking():
            async with deadline(self._guarded.lookup_timeout, len(keys)):
                return await self._leases.aclaim(keys)

    async def arelease(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        try:
            with self._guarded.asking():
                async with deadline(self._guarded.lookup_timeout, len(keys)):
                    await self._leases.arelease(keys)
        finally:
            self._leases.lapse(keys)

    def close(self) -> None:
        self._leases.close()


@contextlib.asynccontextmanager
async def deadline(seconds: float, keys: int = 1) -> AsyncGenerator[None]:
    """Raise StoreError if the block takes longer than so many seconds for each thousand keys.

    An event loop that was busy gets a little more time: what came in meanwhile is taken first.
    """
    allowed = seconds * (1 + keys // _DEADLINE_FOR)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:
            timer = loop.call_later(allowed, lambda: limit.reschedule(loop.time() + _GRACE))
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError as error:
        raise StoreError(
            f"the store did not answer within {allowed:g} seconds; see whether it or the network "
            "is overloaded, or allow more with lookup_timeout and timeout"
        ) from error
