"""A store in a bucket of S3, Google Cloud Storage or Azure, or in a folder used like one."""

import asyncio
import contextlib
import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from askonce.core import colours
from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.keys import utf8
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import InputError, MissingExtraError, StoreError
from askonce.stores import Location
from askonce.stores.guarded import Guarded
from askonce.stores.sqlite_leases import SQLiteLeases

try:
    from obstore.store import LocalStore
except ImportError as error:
    raise MissingExtraError("obstore", "objects", "a store of objects") from error

from askonce.stores.objects_batch import Batch, batches, grave_of
from askonce.stores.objects_bucket import Bucket, together
from askonce.stores.objects_diagnosis import findings_of
from askonce.stores.objects_leases import ObjectLeases
from askonce.stores.objects_log import Log, MovedError, View
from askonce.stores.objects_manifest import PACKS, pack_name
from askonce.stores.objects_segments import (
    Indexes,
    as_digests,
    digest_of,
    draft_of,
    newest_of,
    newest_rows,
)
from askonce.stores.objects_url import LOOKUP_TIMEOUT, TIMEOUT, engine_of, limits_of
from askonce.stores.objects_vacuum import vacuum
from askonce.stores.objects_values import Spot, Values

if TYPE_CHECKING:
    from askonce.stores.objects_bucket import Engine

T = TypeVar("T")

FOLDER = "askonce"
"""All objects of a store are below it; nothing else in the bucket is looked at."""

_DEADLINE_FOR = 1000
_LOOKS = 3
_LEFT_FOR_ANSWER = 0.1


class ObjectStore(Store):
    """Keep entries in objects of an obstore store, below `prefix` and `askonce/`.

    Entries that are written together are kept together, so that many take few requests. Nothing is
    asked for before it is needed: opening neither waits nor fails. For each thousand keys a
    look-up has `lookup_timeout` seconds, writing and deleting `timeout`; of all other verbs each
    request has `timeout`.
    """

    def __init__(
        self,
        engine: "Engine",
        prefix: str = "",
        *,
        shown: str = "the object store",
        lookup_timeout: float = LOOKUP_TIMEOUT,
        timeout: float = TIMEOUT,
    ) -> None:
        if not min(lookup_timeout, timeout) > 0:
            raise InputError("lookup_timeout and timeout must be above 0")
        self._lookup_timeout = lookup_timeout
        self._timeout = timeout
        self._bucket = Bucket(
            engine,
            f"{prefix}/{FOLDER}" if prefix else FOLDER,
            shown=shown,
            timeout=max(timeout, lookup_timeout),
            is_folder=isinstance(engine, LocalStore),
        )
        self._log = Log(self._bucket)
        self._closed = False

    @classmethod
    def open(cls, location: Location) -> Store:
        """Open `s3://bucket/prefix`, `gs://…`, `az://…` or `file+object:///folder`."""
        lookup, timeout = limits_of(location)
        engine, prefix = engine_of(location, timeout=max(lookup, timeout))
        shown = location.shown.partition("?")[0]
        store = cls(engine, prefix, shown=shown, lookup_timeout=lookup, timeout=timeout)
        return Guarded(store, lookup_timeout=lookup, timeout=timeout)

    @functools.cached_property
    def leases(self) -> Leases:
        engine = self._bucket.engine
        if isinstance(engine, LocalStore):
            return SQLiteLeases(Path(engine.prefix or "/", self._bucket.root, "leases.db"))
        return ObjectLeases(self._bucket, self._lookup_timeout)

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._open():
            async with self._deadline(self._lookup_timeout, len(keys)):
                return await self._read(keys)

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        with self._open():
            async with self._deadline(self._timeout, len(entries)) as end:
                for batch in batches(entries, expires):
                    await self._write(batch, end)

    async def adelete(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        with self._open():
            async with self._deadline(self._timeout, len(keys)) as end:
                view = await self._log.look()
                wanted = as_digests(digest_of(key) for key in dict.fromkeys(keys))
                owners, rows = newest_of(view.segments, wanted)
                here = owners >= 0
                await self._bury(view, owners[here], rows[here], end)

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        with self._open():
            _, found = await self._entries(prefix)
            for key, _, _ in found:
                yield key

    async def aclear(self, prefix: str) -> int:
        with self._open():
            view, found = await self._entries(prefix)
            owners = np.array([owner for _, owner, _ in found], np.intp)
            rows = np.array([row for _, _, row in found], np.intp)
            await self._bury(view, owners, rows)
            return len(found)

    async def asize(self) -> int:
        """Tell the bytes of all objects, those included that are not needed any more."""
        with self._open():
            return sum(one.size for one in await self._bucket.listing())

    async def aprune(self, now: float) -> int:
        with self._open():
            view = await self._log.look()
            owners, rows = newest_rows(view.segments, gone=False)
            expired = np.zeros(len(rows), np.bool_)
            for number, segment in enumerate(view.segments):
                mine = owners == number
                expired[mine] = segment.rows["expires"][rows[mine]] <= now
            await self._bury(view, owners[expired], rows[expired])
            return int(expired.sum())

    async def avacuum(self) -> None:
        """Merge all segments, and pack anew what is half empty or in many small packs."""
        with self._open():
            await vacuum(self._log)

    async def aclose(self) -> None:
        self.close()

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return _run(self.aread(keys))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        _run(self.awrite(entries, expires=expires))

    def delete(self, keys: Sequence[str]) -> None:
        _run(self.adelete(keys))

    def keys(self, prefix: str = "") -> Iterator[str]:
        async def all_of_them() -> list[str]:
            return [key async for key in self.akeys(prefix)]

        yield from _run(all_of_them())

    def clear(self, prefix: str) -> int:
        return _run(self.aclear(prefix))

    def size(self) -> int:
        return _run(self.asize())

    def prune(self, now: float) -> int:
        return _run(self.aprune(now))

    def vacuum(self) -> None:
        _run(self.avacuum())

    def diagnose(self) -> list[Finding]:
        return _run(findings_of(self._bucket))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._close_leases()

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        unique = dict.fromkeys(keys)
        if not unique:
            return []
        values = Values(self._bucket)
        missing: set[str] = set()
        spots: dict[int, Spot] = {}
        for _ in range(_LOOKS):
            spots, absent = await self._look_for(unique, values)
            if absent <= missing:
                break
            missing = absent  # moved meanwhile; what is missing twice is lost
        found = dict(zip(spots, values.cut(spots.values()), strict=True))
        by_key = {key: found.get(number) for number, key in enumerate(unique)}
        return [by_key[key] for key in keys]

    async def _look_for(
        self, keys: Iterable[str], values: Values
    ) -> tuple[dict[int, Spot], set[str]]:
        """Load the values of keys; tell by their numbers where they lie, and what was absent.

        While the log is listed they are got from where they were last known to be: if they are
        still there, and mostly they are, nothing is left to be asked for.
        """
        looking = asyncio.ensure_future(self._log.look())
        await asyncio.sleep(0)  # it is on its way before anything is computed
        wanted = as_digests(map(digest_of, keys))
        known = self._log.known
        spots = values.find(known, wanted)
        loading = asyncio.ensure_future(values.load_if_possible(spots.values()))
        try:
            segments = (await looking).segments
            absent = await loading
        finally:
            looking.cancel()
            loading.cancel()
        if absent is not None and segments == known:
            return spots, absent
        spots = values.find(segments, wanted)
        return spots, await values.load(spots.values())

    async def _write(self, batch: Batch, end: float) -> None:
        view, packs = await asyncio.gather(self._log.names(), together(self._put_pack, batch.packs))
        await self._log.append(batch.draft(self._log.next_stamp(), packs))
        await self._tidy_up(view, end)

    async def _put_pack(self, values: Sequence[bytes]) -> str:
        name = pack_name(self._log.next_stamp())
        await self._bucket.put(f"{PACKS}/{name}", b"".join(values))
        return name

    async def _bury(
        self,
        view: View,
        owners: Indexes,
        rows: Indexes,
        end: float | None = None,
    ) -> None:
        """Delete versions of entries, and those before them, but none that come later."""
        if not len(owners):
            return
        pairs = zip(owners.tolist(), rows.tolist(), strict=True)
        graves = [grave_of(view.segments[owner], row) for owner, row in pairs]
        await self._log.append(draft_of(graves))
        await self._tidy_up(view, end)

    async def _tidy_up(self, view: View, end: float | None) -> None:
        """Merge if it is time to, and if there is time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await self._log.merge_sometimes(view)

    async def _entries(self, prefix: str) -> tuple[View, list[tuple[str, int, int]]]:
        """Look, and give key, segment and row of every entry whose key starts with a prefix."""
        for _ in range(_LOOKS):
            view = await self._log.look()
            try:
                blocks = await together(self._log.keys_of, view.segments)
            except MovedError:
                continue
            return view, _entries_of(view, blocks, utf8(prefix))
        raise self._log.restless()

    @contextlib.contextmanager
    def _open(self) -> Generator[None]:
        if self._closed:
            raise StoreError(f"{self._bucket.shown}: the store is closed")
        yield

    @contextlib.asynccontextmanager
    async def _deadline(self, seconds: float, keys: int) -> AsyncGenerator[float]:
        """Raise StoreError if a block takes longer; tell until when there is time for extras."""
        allowed = seconds * (1 + keys // _DEADLINE_FOR)
        end = asyncio.get_running_loop().time() + allowed
        try:
            async with asyncio.timeout_at(end):
                yield end - allowed * _LEFT_FOR_ANSWER
        except TimeoutError as error:
            raise self._bucket.silent(allowed) from error


def _entries_of(view: View, blocks: Sequence[bytes], prefix: bytes) -> list[tuple[str, int, int]]:
    """Give them in the order in which their values lie: who reads them in turn reads each once."""
    owners, rows = newest_rows(view.segments, gone=False)
    found: list[tuple[str, int, int]] = []
    for number, (segment, block) in enumerate(zip(view.segments, blocks, strict=True)):
        mine = rows[owners == number]
        mine = mine[np.lexsort((segment.rows["offset"][mine], segment.rows["place"][mine]))]
        begins = segment.key_starts[mine].tolist()
        lengths = segment.rows["key_length"][mine].tolist()
        for row, begin, length in zip(mine.tolist(), begins, lengths, strict=True):
            key = block[begin : begin + length]
            if key and key.startswith(prefix):
                found.append((key.decode("utf-8", "surrogatepass"), number, row))
    return found


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    result: T = colours.run_coroutine(coroutine)
    return result
