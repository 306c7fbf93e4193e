"""A store in this process's memory, for tests, notebooks and the near side of two tiers."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from askonce.core import entry, fork
from askonce.core.entry import NEVER
from askonce.core.store import Store
from askonce.stores import Location
from askonce.stores.usage import refuse_the_rest

DEFAULT_MAX_BYTES = 256 * 1024**2
_OVERHEAD = 200
"""About what Python spends on an entry besides its key and value, in bytes."""


class MemoryStore(Store):
    """Keep up to `max_bytes` of entries, and give up the least recently used first.

    A single entry above that is refused, and nothing is given up for it.
    """

    IS_AT_HAND = True

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        fork.hold_still(self._lock)

    @classmethod
    def open(cls, location: Location) -> "MemoryStore":
        """Open `memory://`, whose one option is `max_bytes`."""
        location.only_options("max_bytes")
        return cls(location.size_option("max_bytes", DEFAULT_MAX_BYTES))

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        entries = self._entries
        values: list[bytes | None] = []
        with self._lock:
            for key in keys:
                value = entries.get(key)
                if value is not None:
                    entries.move_to_end(key)
                values.append(value)
        return values

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        fit = {k: value for k, value in entries.items() if _size(k, value) <= self.max_bytes}
        with self._lock:
            for key in entries:
                self._forget(key)
            for key, value in fit.items():
                self._entries[key] = bytes(value)
                self._size += _size(key, value)
            while self._size > self.max_bytes:
                self._forget(next(iter(self._entries)))
        refuse_the_rest(entries, fit, self.max_bytes)

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._forget(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self._lock:
            found = [key for key in self._entries if key.startswith(prefix)]
        yield from found

    def size(self) -> int:
        return self._size

    def prune(self, now: float) -> int:
        with self._lock:
            entries = self._entries.items()
            expired = [key for key, value in entries if entry.has_expired(value, now=now)]
            for key in expired:
                self._forget(key)
        return len(expired)

    def close(self) -> None:
        """Do nothing: the entries live as long as the store."""

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.read(keys)

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        self.write(entries, expires=expires)

    async def adelete(self, keys: Sequence[str]) -> None:
        self.delete(keys)

    async def aclear(self, prefix: str) -> int:
        return self.clear(prefix)

    async def aclose(self) -> None:
        self.close()

    def _forget(self, key: str) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._size -= _size(key, value)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD
