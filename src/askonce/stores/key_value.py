"""A store over any store of py-key-value, whose values are JSON objects and whose verbs wait."""

import asyncio
import base64
import binascii
import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from askonce.core import fork
from askonce.core.entry import NEVER
from askonce.core.store import Store
from askonce.errors import StoreError

T = TypeVar("T")

COLLECTION = "askonce"
_FIELD = "base64"
_LISTED = 10_000
"""The most keys that the stores of py-key-value list, unless they say `PAGE_LIMIT`."""


class KeyValueStore(Store):
    """Keep entries as base64 in the collection `askonce` of a store of py-key-value.

    That store is used in an event loop of its own thread, in both colours, for what it connects
    belongs to one loop; so it must not be in use elsewhere, and is closed with this one.

    Its stores list so many keys and no more, most of them 10,000: `keys` of a larger collection
    raise StoreError rather than leave some out. Clearing goes on until nothing is left.
    """

    def __init__(self, key_value: Any) -> None:
        self.key_value = key_value
        self._limit = _limit_of(key_value)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return _wait(self._read(keys))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        _wait(self._write(entries, expires))

    def delete(self, keys: Sequence[str]) -> None:
        _wait(self._delete(keys))

    def keys(self, prefix: str = "") -> Iterator[str]:
        yield from _wait(self._keys(prefix))

    def clear(self, prefix: str) -> int:
        return _wait(self._clear(prefix))

    def close(self) -> None:
        _wait(self._close())

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        return await _await(self._read(keys))

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        await _await(self._write(entries, expires))

    async def adelete(self, keys: Sequence[str]) -> None:
        await _await(self._delete(keys))

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        for key in await _await(self._keys(prefix)):
            yield key

    async def aclear(self, prefix: str) -> int:
        return await _await(self._clear(prefix))

    async def aclose(self) -> None:
        await _await(self._close())

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        with self._failures("read"):
            values = await self.key_value.get_many(keys=list(keys), collection=COLLECTION)
        return [_bytes_of(value) for value in values]

    async def _write(self, entries: Mapping[str, bytes], expires: float) -> None:
        if not entries:
            return
        values = [{_FIELD: base64.b64encode(value).decode("ascii")} for value in entries.values()]
        left = expires - time.time()
        # What has expired already is for `prune`: a lifetime of nothing is refused.
        ttl = math.ceil(left) if 0 < left < NEVER else None
        with self._failures("write"):
            await self.key_value.put_many(
                keys=list(entries), values=values, collection=COLLECTION, ttl=ttl
            )

    async def _delete(self, keys: Sequence[str]) -> None:
        if keys:
            with self._failures("delete"):
                await self.key_value.delete_many(keys=list(keys), collection=COLLECTION)

    async def _keys(self, prefix: str) -> list[str]:
        listed = await self._list()
        if len(listed) >= self._limit:
            raise self._too_many()
        return [key for key in listed if key.startswith(prefix)]

    async def _clear(self, prefix: str) -> int:
        count = 0
        while True:
            listed = await self._list()
            found = [key for key in listed if key.startswith(prefix)]
            await self._delete(found)
            count += len(found)
            if len(listed) < self._limit:
                return count
            if not found:
                raise self._too_many()

    async def _list(self) -> list[str]:
        if not hasattr(self.key_value, "keys"):
            raise StoreError(
                f"{self._name} does not list its keys: look into it by its own means, and let "
                "entries expire"
            )
        with self._failures("list"):
            keys: list[str] = await self.key_value.keys(COLLECTION, limit=self._limit)
        return keys

    async def _close(self) -> None:
        close = getattr(self.key_value, "close", None)
        if close is not None:
            with self._failures("close"):
                await close()

    @property
    def _name(self) -> str:
        return type(self.key_value).__qualname__

    def _too_many(self) -> StoreError:
        return StoreError(
            f"{self._name} lists {self._limit} keys at most, and there may be more; clear the "
            "collection, or use a store of askonce's for what has to be listed"
        )

    @contextlib.contextmanager
    def _failures(self, verb: str) -> Generator[None]:
        try:
            yield
        except Exception as error:
            raise StoreError(
                f"{self._name} could not {verb}: {type(error).__name__}: {error}"
            ) from error


def _limit_of(key_value: Any) -> int:
    """Tell how many keys a store lists, or the one inside its wrappers."""
    while hasattr(key_value, "key_value"):
        key_value = key_value.key_value
    limit: int = getattr(sys.modules[type(key_value).__module__], "PAGE_LIMIT", _LISTED)
    return limit


def _bytes_of(value: Mapping[str, object] | None) -> bytes | None:
    text = None if value is None else value.get(_FIELD)
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


class _Thread:
    """Hold the event loop, in a thread of its own, that all these stores are used in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._process = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Give the loop; a forked child begins its own."""
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                self._process = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="askonce-key-value", daemon=True
                ).start()
            return self._loop


_thread = _Thread()


def _wait(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, _thread.loop()).result()


async def _await(work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _thread.loop()))
