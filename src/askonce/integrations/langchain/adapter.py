"""LangChain's stores seen as stores of askonce."""

import contextlib
import threading
import typing
import weakref
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.stores import BaseStore, ByteStore, InvalidKeyException

from askonce.core.entry import NEVER
from askonce.core.flight import Flights
from askonce.core.store import Store
from askonce.errors import InputTypeError, StoreError
from askonce.integrations.langchain.byte_stores import StoreByteStore
from askonce.stores import open_store


class ByteStoreAdapter(Store):
    """Be a store over any LangChain byte store; its async verbs serve the async side."""

    def __init__(self, byte_store: ByteStore) -> None:
        self.byte_store = byte_store
        self.flights = flights_of(byte_store)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._failures():
            return self._checked(keys, self.byte_store.mget(list(keys)))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        with self._failures():
            self.byte_store.mset(list(entries.items()))

    def delete(self, keys: Sequence[str]) -> None:
        with self._failures():
            self.byte_store.mdelete(list(keys))

    def keys(self, prefix: str = "") -> Iterator[str]:
        # The prefix is ours to look at: LangChain's own file store takes it for a folder. And
        # a store that is a dict must not change while its keys are given out.
        with self._failures():
            found = [key for key in self.byte_store.yield_keys() if key.startswith(prefix)]
        yield from found

    def close(self) -> None:
        """Do nothing: the byte store belongs to whoever made it."""

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._failures():
            return self._checked(keys, await self.byte_store.amget(list(keys)))

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        with self._failures():
            await self.byte_store.amset(list(entries.items()))

    async def adelete(self, keys: Sequence[str]) -> None:
        with self._failures():
            await self.byte_store.amdelete(list(keys))

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        with self._failures():
            found = [
                key
                async for key in self.byte_store.ayield_keys()  # pyright: ignore[reportGeneralTypeIssues]
                if key.startswith(prefix)
            ]
        for key in found:
            yield key

    def _checked(self, keys: Sequence[str], values: Sequence[object]) -> list[bytes | None]:
        if len(values) != len(keys):
            raise StoreError(
                f"{self._name} returned {len(values)} values for {len(keys)} keys; "
                "mget must give one a key, None where there is none"
            )
        return [value if isinstance(value, bytes) else _bytes_of(value) for value in values]

    @property
    def _name(self) -> str:
        return type(self.byte_store).__qualname__

    @contextlib.contextmanager
    def _failures(self) -> Generator[None]:
        try:
            yield
        except StoreError:
            raise
        except InvalidKeyException as error:
            raise StoreError(
                f"{self._name} refused a key: {error}. Choose another namespace, or a store that "
                "takes any, like askonce's LocalFileStore or 'sqlite:///cache.db'"
            ) from error
        except Exception as error:
            raise StoreError(f"{self._name} failed: {error}") from error


def as_store(store: object) -> Store:
    """Give the store behind a Store, a URL or a LangChain byte store.

    Raises InputTypeError for anything else, and whatever opening the URL raises.
    """
    if isinstance(store, StoreByteStore):
        return store.store
    if isinstance(store, BaseStore):
        return ByteStoreAdapter(store)
    if isinstance(store, Store | str):
        return open_store(store)
    raise InputTypeError(
        f"a {type(store).__qualname__} is not a store; give a LangChain ByteStore, "
        "an askonce Store or a URL like 'sqlite:///cache.db'"
    )


def holds_bytes(store: object) -> bool:
    """Tell whether this is certainly a store of bytes, not of vectors."""
    if isinstance(store, Store | str | StoreByteStore):
        return True
    bases = (
        base for part in type(store).__mro__ for base in part.__dict__.get("__orig_bases__", ())
    )
    return any(bytes in typing.get_args(base)[-1:] for base in bases)


_flights: weakref.WeakKeyDictionary[BaseStore[Any, Any], Flights] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def flights_of(store: BaseStore[Any, Any]) -> Flights:
    """Give the calls under way, shared by all who were handed the same LangChain store."""
    with _lock:
        try:
            return _flights.setdefault(store, Flights())
        except TypeError:  # It cannot be hashed or referred to weakly: then nobody shares.
            return Flights()


def _bytes_of(value: object) -> bytes | None:
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None
