"""What a store is: bytes by key, in a handful of batch verbs, each in both colours."""

import asyncio
import functools
import itertools
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import ClassVar, Literal, Self

from askonce.core import entry
from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.flight import Flights
from askonce.core.lease import Leases
from askonce.events import Event

_AT_ONCE = 1000
SLOW = 0.02
SLOW_FOR = 1.0
"""Seconds: a look-up that took longer than the first has others take a thread for the second."""


class Store(ABC):
    """Keep bytes by key.

    Keys are non-empty strings of segments joined by `/`; no key is the start of another up to a
    `/`. Each verb raises StoreError if the engine fails, and may be called from any thread. A
    batch larger than the engine likes is cut up inside. The async verbs do the same on a worker
    thread, unless a store has something better; then it overrides all of them.
    """

    IS_AT_HAND: ClassVar[bool] = False
    """Whether a look-up of one key is over in microseconds, on this machine."""

    works_in_loops: bool = False
    """Whether event loops may do what takes microseconds themselves; a server wants that."""

    beside: Literal["reads", "copies"] = "copies"
    """What a large joined look-up leaves to another core.

    To read, where that leaves the interpreter to others nearly all of its time, or else to check
    and copy what was read.
    """

    _slow_until: float = 0.0

    news: deque[Event] | tuple[()] = ()
    """What happened to the store itself and nobody was told of yet; the next flow tells it."""

    @functools.cached_property
    def flights(self) -> Flights:
        """Give the calls under way on behalf of this store."""
        return Flights()

    @functools.cached_property
    def leases(self) -> Leases | None:
        """Give what tells other processes what is being asked for; None if there can be none."""
        return None

    @abstractmethod
    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read the values of these keys, in their order; None where there is none."""

    def read_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        """Read values, joined to one block if all are there and of one length.

        For an engine that copies a block faster than values one by one; giving a list is always
        right.
        """
        return self.read(keys)

    @abstractmethod
    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        """Write all of these, each whole or not at all, over what was there.

        `expires` (seconds since 1970) is permission to reclaim the space from then on, no more.
        """

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete these keys; those that are not there are ignored."""

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Give the keys that start with `prefix`, in any order.

        What is written or deleted meanwhile may or may not show.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; a second call does nothing."""

    def _close_leases(self) -> None:
        leases = self.__dict__.get("leases")
        if isinstance(leases, Leases):
            leases.close()

    def clear(self, prefix: str) -> int:
        """Delete every key that starts with `prefix` and tell how many there were."""
        count = 0
        for keys in self._batches(prefix):
            self.delete(keys)
            count += len(keys)
        return count

    def size(self) -> int:
        """Tell how many bytes the store takes, as near as the engine knows."""
        return sum(
            len(key) + len(value or b"")
            for keys in self._batches("")
            for key, value in zip(keys, self.read(keys), strict=True)
        )

    def prune(self, now: float) -> int:
        """Delete what may be reclaimed at `now` (seconds since 1970); tell how many those were."""
        count = 0
        for keys in self._batches(""):
            values = self.read(keys)
            expired = [
                key
                for key, value in zip(keys, values, strict=True)
                if value is not None and entry.has_expired(value, now=now)
            ]
            self.delete(expired)
            count += len(expired)
        return count

    def evict(self) -> int:
        """Give up the least recently used until the store is within its limit; tell how many.

        A store without a limit gives up nothing.
        """
        return 0

    def vacuum(self) -> None:  # noqa: B027  most engines need none
        """Give back the space of what was deleted, as far as the engine holds on to it."""

    def flush(self) -> None:  # noqa: B027  most write at once
        """Bring what was written to where it stays, if a layer holds on to it."""

    def diagnose(self) -> list[Finding]:
        """Tell what only the engine knows of its version, its settings and its limits.

        For people who want to know what is wrong; it asks whatever takes no more than a look.
        """
        return []

    def _batches(self, prefix: str) -> Iterator[list[str]]:
        keys = self.keys(prefix)
        while batch := list(itertools.islice(keys, _AT_ONCE)):
            yield batch

    def read_at_once(self, key: str) -> list[bytes | None] | None:
        """Read one key in an event loop; None where that could hold it up.

        A store at hand takes less time than the way to a thread and back. One that has just taken
        long is left to threads for a while.
        """
        began = time.monotonic()
        if not (self.works_in_loops and self.IS_AT_HAND) or began < self._slow_until:
            return None
        values = self.read((key,))
        if time.monotonic() - began > SLOW:
            self._slow_until = began + SLOW_FOR
        return values

    def stamp(self) -> object:
        """Give what is another one as soon as anybody writes; None where that cannot be told.

        It costs much less than a look-up.
        """
        return None

    def write_at_once(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> bool:
        """Write in an event loop; False where that could hold it up, and nothing is written."""
        return False

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read without blocking the event loop."""
        return await asyncio.to_thread(self.read, keys)

    async def aread_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        """Read joined without blocking the event loop."""
        return await self.aread(keys)

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        """Write without blocking the event loop."""
        await asyncio.to_thread(self.write, entries, expires=expires)

    async def adelete(self, keys: Sequence[str]) -> None:
        """Delete without blocking the event loop."""
        await asyncio.to_thread(self.delete, keys)

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        """Give the keys that start with `prefix` without blocking the event loop."""
        keys = self.keys(prefix)
        while batch := await asyncio.to_thread(lambda: list(itertools.islice(keys, _AT_ONCE))):
            for key in batch:
                yield key

    async def aclear(self, prefix: str) -> int:
        """Clear without blocking the event loop."""
        return await asyncio.to_thread(self.clear, prefix)

    async def asize(self) -> int:
        """Tell the size without blocking the event loop."""
        return await asyncio.to_thread(self.size)

    async def aprune(self, now: float) -> int:
        """Prune without blocking the event loop."""
        return await asyncio.to_thread(self.prune, now)

    async def aevict(self) -> int:
        """Evict without blocking the event loop."""
        return await asyncio.to_thread(self.evict)

    async def avacuum(self) -> None:
        """Vacuum without blocking the event loop."""
        await asyncio.to_thread(self.vacuum)

    async def aclose(self) -> None:
        """Close without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
