"""Vectors that others stored, LangChain's lists of numbers, read as entries."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.stores import BaseStore

from askonce.core import codecs, entry, vectors
from askonce.core.store import Store
from askonce.errors import AnswerError
from askonce.integrations.langchain.adapter import flights_of


class ForeignValues(Store):
    """Read a store's values as entries: what is not one is taken for LangChain's JSON.

    Such an entry is not bound to a model. Nothing is rewritten by reading it, and what is
    neither, like a file cut short, is as if it were not there.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.flights = inner.flights

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        blobs = self.inner.read(keys)
        places = _foreign_places(blobs)
        return _with_lists(blobs, places) if places else blobs

    def write(self, entries: Mapping[str, bytes], *, expires: float = entry.NEVER) -> None:
        self.inner.write(entries, expires=expires)

    def delete(self, keys: Sequence[str]) -> None:
        self.inner.delete(keys)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self.inner.keys(prefix)

    def close(self) -> None:
        self.inner.close()

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        blobs = await self.inner.aread(keys)
        places = _foreign_places(blobs)
        return await asyncio.to_thread(_with_lists, blobs, places) if places else blobs

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = entry.NEVER) -> None:
        await self.inner.awrite(entries, expires=expires)

    async def adelete(self, keys: Sequence[str]) -> None:
        await self.inner.adelete(keys)

    def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        return self.inner.akeys(prefix)


class VectorLists(Store):
    """Read and write a LangChain store whose values are lists of numbers."""

    def __init__(self, lists: BaseStore[str, list[float]]) -> None:
        self.lists = lists
        self.flights = flights_of(lists)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return entries_of(self.lists.mget(list(keys)))

    def write(self, entries: Mapping[str, bytes], *, expires: float = entry.NEVER) -> None:
        self.lists.mset(_pairs(entries))

    def delete(self, keys: Sequence[str]) -> None:
        self.lists.mdelete(list(keys))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self.lists.yield_keys() if key.startswith(prefix))

    def close(self) -> None:
        """Do nothing: the store belongs to whoever made it."""

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        values = await self.lists.amget(list(keys))
        return await asyncio.to_thread(entries_of, values)

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = entry.NEVER) -> None:
        await self.lists.amset(await asyncio.to_thread(_pairs, entries))

    async def adelete(self, keys: Sequence[str]) -> None:
        await self.lists.amdelete(list(keys))

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        async for key in self.lists.ayield_keys():  # pyright: ignore[reportGeneralTypeIssues]
            if key.startswith(prefix):
                yield key


def entries_of(values: Sequence[object]) -> list[bytes | None]:
    """Write lists of numbers as entries that are not bound; None for what is not such a list."""
    alike: dict[int, list[int]] = {}
    rows = [_row(value) for value in values]
    for place, row in enumerate(rows):
        if row is not None:
            alike.setdefault(len(row), []).append(place)
    blobs: list[bytes | None] = [None] * len(rows)
    for places in alike.values():
        packed = vectors.pack(
            np.stack([row for place in places if (row := rows[place]) is not None]),
            np.zeros(len(places), np.uint64),
            created=0.0,
            expires=entry.NEVER,
        )
        for place, blob in zip(places, packed, strict=True):
            blobs[place] = blob
    return blobs


def _row(value: object) -> vectors.Vectors | None:
    if value is None:
        return None
    try:
        row: vectors.Vectors = vectors.rows_of([value], 1)[0]
    except AnswerError:
        return None
    return row


def _foreign_places(blobs: Sequence[bytes | None]) -> list[int]:
    return [
        place
        for place, blob in enumerate(blobs)
        if blob is not None and not blob.startswith(entry.MAGIC)
    ]


def _with_lists(blobs: list[bytes | None], places: Sequence[int]) -> list[bytes | None]:
    read = list(blobs)
    lists = entries_of([_parsed(blobs[place] or b"") for place in places])
    for place, blob in zip(places, lists, strict=True):
        read[place] = blob
    return read


def _parsed(blob: bytes) -> object:
    try:
        value: object = json.loads(blob)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _pairs(entries: Mapping[str, bytes]) -> list[tuple[str, list[float]]]:
    return [(key, vector_of(blob)) for key, blob in entries.items()]


def vector_of(blob: bytes) -> list[float]:
    """Give an entry's vector as a list; the entry is one that was just made."""
    found = entry.unpack(blob)
    if found is None:
        raise ValueError("this is not a whole entry")
    row: Any = np.frombuffer(found.payload, codecs.VECTOR_DTYPES[found.codec])
    numbers: list[float] = row.tolist()
    return numbers
