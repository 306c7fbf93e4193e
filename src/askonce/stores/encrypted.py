"""Encryption at rest: a layer over any store, whose reader learns neither values nor questions."""

import functools
import os
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import InputError, StoreRefusedError
from askonce.events import Event
from askonce.stores import Location, open_store
from askonce.stores.seals import Keys, Seal, Seals

KEY_ENV = "ASKONCE_KEY"
_OPTIONS = ("key_env", "key_file")
_AT_ONCE = 1000


class EncryptedStore(Store):
    """Keep values and the ends of keys encrypted in another store, which it closes.

    What can be read there without a key is written in `askonce.stores.seals`. What cannot be
    decrypted, because its key was dropped or it was tampered with, is not there. Writing to a
    namespace without a key raises StoreRefusedError.
    """

    def __init__(self, store: Store, seals: Seals) -> None:
        self.store = store
        self._seals = seals
        self.news: deque[Event] | tuple[()] = store.news

    @classmethod
    def open(cls, location: Location) -> "EncryptedStore":
        """Open `encrypted+sqlite:///cache.db`: any URL of a store with this in front.

        The keys are never in a URL: they are in the environment variable `key_env` (ASKONCE_KEY),
        or in the file `key_file`, in base64 and separated by commas or lines; the first one
        writes, all of them read.
        """
        scheme = location.scheme.partition("+")[2]
        if not scheme:
            raise InputError("an encrypted store is opened like encrypted+sqlite:///cache.db")
        options = dict(location.options)
        if "key" in options or "keys" in options:
            # Not to be shown, as the store below would in refusing it.
            raise InputError(
                "a key does not belong in a URL, which ends up in logs: put it into the "
                f"environment variable {KEY_ENV} or into a file, and name that with key_file"
            )
        file, name = options.pop("key_file", None), options.pop("key_env", KEY_ENV)
        if file is None:
            text = os.environ.get(name, "")
            if not text:
                raise InputError(
                    f"{location.shown}: set the environment variable {name} to a key, made for "
                    "example by `openssl rand -base64 32`"
                )
        else:
            try:
                text = Path(file).read_text()
            except OSError as error:
                raise InputError(f"{location.shown}: cannot read the key file: {error}") from None
        query = "?" + urllib.parse.urlencode(options) if options else ""
        path = urllib.parse.quote(location.path, safe="/@:,[]~")
        return encrypted(f"{scheme}://{path}{query}", keys=text.replace(",", "\n").split())

    @property
    def trouble(self) -> Exception | None:
        """Give the error that keeps the store below from being asked, None if it is well."""
        trouble: Exception | None = getattr(self.store, "trouble", None)
        return trouble

    @functools.cached_property
    def leases(self) -> Leases | None:
        below = self.store.leases
        return None if below is None else _SealedLeases(below, self._seals)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        asking = _Asking(self._seals, keys)
        return asking.opened(self.store.read(asking.names))

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        asking = _Asking(self._seals, keys)
        return asking.opened(await self.store.aread(asking.names))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        self.store.write(self._sealed(entries), expires=expires)
        if older := self._older(entries):
            self.store.delete(older)

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        await self.store.awrite(self._sealed(entries), expires=expires)
        if older := self._older(entries):
            await self.store.adelete(older)

    def delete(self, keys: Sequence[str]) -> None:
        self.store.delete(_Asking(self._seals, keys).names)

    async def adelete(self, keys: Sequence[str]) -> None:
        await self.store.adelete(_Asking(self._seals, keys).names)

    def keys(self, prefix: str = "") -> Iterator[str]:
        seen: set[str] = set()
        names: list[str] = []
        for name in self.store.keys(_folder(prefix)):
            names.append(name)
            if len(names) == _AT_ONCE:
                yield from self._revealed(names, self.store.read(names), prefix, seen)
                names.clear()
        yield from self._revealed(names, self.store.read(names), prefix, seen)

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        seen: set[str] = set()
        names: list[str] = []
        async for name in self.store.akeys(_folder(prefix)):
            names.append(name)
            if len(names) == _AT_ONCE:
                for key in self._revealed(names, await self.store.aread(names), prefix, seen):
                    yield key
                names.clear()
        for key in self._revealed(names, await self.store.aread(names), prefix, seen):
            yield key

    def clear(self, prefix: str) -> int:
        """Clear, also what cannot be decrypted any more; see `Store.clear`."""
        if prefix == _folder(prefix):
            return self.store.clear(prefix)
        return super().clear(prefix)

    async def aclear(self, prefix: str) -> int:
        if prefix == _folder(prefix):
            return await self.store.aclear(prefix)
        return await super().aclear(prefix)

    def size(self) -> int:
        return self.store.size()

    async def asize(self) -> int:
        return await self.store.asize()

    def prune(self, now: float) -> int:
        return self.store.prune(now)

    async def aprune(self, now: float) -> int:
        return await self.store.aprune(now)

    def evict(self) -> int:
        return self.store.evict()

    async def aevict(self) -> int:
        return await self.store.aevict()

    def vacuum(self) -> None:
        self.store.vacuum()

    async def avacuum(self) -> None:
        await self.store.avacuum()

    def flush(self) -> None:
        self.store.flush()

    def diagnose(self) -> list[Finding]:
        return self.store.diagnose()

    def close(self) -> None:
        self._close_leases()
        self.store.close()

    async def aclose(self) -> None:
        self._close_leases()
        await self.store.aclose()

    def _sealed(self, entries: Mapping[str, bytes]) -> dict[str, bytes]:
        sealed: dict[str, bytes] = {}
        for key, value in entries.items():
            seals = self._seals.of(key)
            if not seals:
                raise StoreRefusedError(
                    f"there is no key for the namespace of {key.partition('/')[0]!r}: add one to "
                    "`keys`, for it or as '*' for all that have none of their own"
                )
            name = seals[0].name(key)
            sealed[name] = seals[0].close(name, key, value)
        return sealed

    def _older(self, entries: Mapping[str, bytes]) -> list[str]:
        """Name what older keys wrote of these: it must not come back when this is gone."""
        return [seal.name(key) for key in entries for seal in self._seals.of(key)[1:]]

    def _revealed(
        self, names: Sequence[str], blobs: Sequence[bytes | None], prefix: str, seen: set[str]
    ) -> Iterator[str]:
        for name, blob in zip(names, blobs, strict=True):
            for seal in self._seals.of(name):
                opened = None if blob is None else seal.open(name, blob)
                if opened is not None:
                    key = opened[0]
                    # A name that another key's holder made up is nobody's.
                    if key.startswith(prefix) and key not in seen and seal.name(key) == name:
                        if len(self._seals.of(name)) > 1:
                            seen.add(key)
                        yield key
                    break


class _Asking:
    """Hold under which names some keys may be found: one for each key that was ever in use."""

    def __init__(self, seals: Seals, keys: Sequence[str]) -> None:
        self._count = len(keys)
        self._wanted: list[tuple[int, str, Seal, str]] = [
            (place, key, seal, seal.name(key))
            for place, key in enumerate(keys)
            for seal in seals.of(key)
        ]
        self.names = [name for _, _, _, name in self._wanted]

    def opened(self, blobs: Sequence[bytes | None]) -> list[bytes | None]:
        """Give the values of the keys, each by the first of its seals that opens one."""
        values: list[bytes | None] = [None] * self._count
        for (place, key, seal, name), blob in zip(self._wanted, blobs, strict=True):
            if values[place] is None and blob is not None:
                opened = seal.open(name, blob)
                if opened is not None and opened[0] == key:
                    values[place] = opened[1]
        return values


class _SealedLeases(Leases):
    """Claim names instead of keys; without a key there is nothing to share, and all may ask."""

    def __init__(self, leases: Leases, seals: Seals) -> None:
        super().__init__(leases.seconds)
        self._below = leases
        self._seals = seals

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        names = self._names(keys)
        granted = set(self._below.take(list(names.values()), holder, seconds)) if names else set()
        return [key for key in keys if key not in names or names[key] in granted]

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        self._below.renew(list(self._names(keys).values()), holder, seconds)

    def drop(self, keys: Sequence[str], holder: str) -> None:
        self._below.drop(list(self._names(keys).values()), holder)

    def _names(self, keys: Sequence[str]) -> dict[str, str]:
        return {key: seals[0].name(key) for key in keys if (seals := self._seals.of(key))}


def _folder(prefix: str) -> str:
    """Give as much of a prefix as the store below has in its names."""
    return prefix[: prefix.rfind("/") + 1]


def encrypted(store: Store | str, *, keys: Keys) -> EncryptedStore:
    """Encrypt all that a store keeps, by AES-256-GCM.

    `keys` is one key, 32 random bytes or their base64; or a list of keys, of which the first
    writes and all read, for rotation; or a mapping of such from namespaces, which then have
    nothing to do with one another: without its keys a namespace is unreadable for good. Raises
    InputError for what are no keys, MissingExtraError without the extra `encryption`.
    """
    return EncryptedStore(open_store(store), Seals(keys))
