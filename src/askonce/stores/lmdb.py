"""The fastest store for reading: LMDB, a memory-mapped tree for many threads and processes."""

import asyncio
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from askonce.core import entry
from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.keys import utf8, utf8_each
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import MissingExtraError, StoreError, StoreRefusedError
from askonce.stores import Location
from askonce.stores.diagnosis import disk_of
from askonce.stores.sqlite_leases import SQLiteLeases
from askonce.stores.usage import Touches, check_limit, fitting, refuse_the_rest

try:
    import lmdb
except ImportError as error:
    raise MissingExtraError("lmdb", "lmdb", "the store lmdb://") from error

from askonce.stores import lmdb_usage
from askonce.stores.lmdb_environment import explain, release, share

T = TypeVar("T")

_PAGE = 1000
_MAX_KEY = 511
_NEARLY_FULL = 0.9
_FIRST_KEY = b"\2"
"""What is before it is the name of the tree beside the first."""


class LMDBStore(Store):
    """Keep entries in an LMDB environment, a folder made for the owner only.

    A commit survives the death of the process at once; after a power cut the last commits may be
    missing, none is torn. `map_size` is the most bytes the store may ever hold: address space,
    not disk, except on Windows. Above `max_bytes` the least recently used entries are given up.
    """

    IS_AT_HAND = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        map_size: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.max_bytes = check_limit(max_bytes)
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; an LMDB store is a folder")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the LMDB store {self.path}: {error}") from error
        self._closed = False
        self._environment = share(self.path, map_size)
        self._touches: Touches[bytes] = Touches(self._note)

    @classmethod
    def open(cls, location: Location) -> "LMDBStore":
        """Open `lmdb:///folder`, whose options are `map_size` and `max_bytes`."""
        location.only_options("map_size", "max_bytes")
        map_size = location.size_option("map_size", 0)
        return cls(
            location.file_path(), map_size=map_size or None, max_bytes=location.limit_option()
        )

    @functools.cached_property
    def leases(self) -> Leases:
        return SQLiteLeases(self.path / "leases.db")

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        encoded = list(utf8_each(keys))
        values = self._with(functools.partial(_read, keys=encoded))
        self._touch(encoded, values)
        return values

    def read_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        encoded = _encoded(keys)
        if not encoded or min(encoded) < _FIRST_KEY:
            return self.read(keys)
        values = self._with(functools.partial(_read_joined, keys=encoded))
        self._touch(encoded, values)
        return values

    def _touch(self, keys: list[bytes], values: bytes | list[bytes | None]) -> None:
        if self.max_bytes is None:
            return
        if isinstance(values, list):
            keys = [key for key, value in zip(keys, values, strict=True) if value]
        self._touches.add(keys)

    async def aread_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        return await asyncio.to_thread(self.read_joined, keys)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        if self.max_bytes is None:
            self._with(functools.partial(_write, entries=entries))
            return
        fit = fitting(entries, self.max_bytes)
        self._touches.flush()
        self._with_usage(functools.partial(_write, entries=fit))
        self._evict({utf8(key) for key in fit})
        refuse_the_rest(entries, fit, self.max_bytes)

    def delete(self, keys: Sequence[str]) -> None:
        def work(environment: Any) -> None:
            with environment.begin(write=True) as transaction:
                for key in filter(_fits, map(utf8, keys)):
                    transaction.delete(key)

        self._with(work)

    def keys(self, prefix: str = "") -> Iterator[str]:
        last = b""
        while page := self._with(functools.partial(_page, prefix=utf8(prefix), after=last)):
            for key in page:
                yield key.decode("utf-8", "surrogatepass")
            last = page[-1]

    def size(self) -> int:
        """Tell how far the file is used; LMDB fills its gaps before it grows."""
        return self._with(_size)

    def prune(self, now: float) -> int:
        count = 0
        last: bytes | None = b""
        while last is not None:
            last, expired = self._with(functools.partial(_expired, after=last, now=now))
            if expired:
                count += self._with(functools.partial(_reclaim, keys=expired, now=now))
        return count

    def evict(self) -> int:
        if self.max_bytes is None:
            return 0
        self._touches.flush()
        return self._evict(set(), strictly=True)

    def vacuum(self) -> None:
        """Write the file anew without gaps. Raises StoreError if another process has it open."""
        self._with(lambda _: None)
        try:
            self._environment.compact()
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"cannot vacuum {self.path}: {error}") from error

    def diagnose(self) -> list[Finding]:
        used, limit = self.size(), self._with(lambda environment: environment.info()["map_size"])
        full = used > _NEARLY_FULL * limit
        return [
            Finding("version", f"LMDB {'.'.join(map(str, lmdb.version()))}"),
            Finding(
                "map_size",
                f"{used / 2**20:,.0f} MiB of {limit / 2**20:,.0f} MiB are used",
                "doubtful" if full else "fine",
                "open the store with a larger map_size" if full else "",
            ),
            *disk_of(self.path, needs_locks=True),
        ]

    def close(self) -> None:
        if not self._closed:
            self._touches.flush()
            self._closed = True
            self._close_leases()
            release(self._environment)

    def _evict(self, spared: set[bytes], *, strictly: bool = False) -> int:
        """Give up what is above the limit, but none of these keys."""
        limit = self.max_bytes or 0
        gone = 0
        while count := self._with_usage(
            functools.partial(lmdb_usage.too_many, max_bytes=limit, strictly=strictly)
        ):
            if not gone and (gone := self.prune(time.time())):
                continue
            lasting = functools.partial(
                lmdb_usage.victims, count=count, max_bytes=limit, spared=spared
            )
            keys, cutoff = self._with_usage(lasting)
            # What a transaction touches is copied, and the old pages can be used only after it.
            step = max(100, min(_PAGE, limit // 2**18))
            parts = (keys[start : start + step] for start in range(0, len(keys), step))
            giving_up = functools.partial(lmdb_usage.give_up, cutoff=cutoff, max_bytes=limit)
            now_gone = sum(
                self._with_usage(functools.partial(giving_up, keys=part)) for part in parts
            )
            gone += now_gone
            self._with_usage(lmdb_usage.forget_strays)
            if not now_gone:
                break
        return gone

    def _note(self, keys: set[bytes]) -> None:
        self._with_usage(functools.partial(lmdb_usage.note_read, keys=keys))

    def _with_usage(self, work: Callable[[Any, Any], T]) -> T:
        return self._with(lambda environment: work(environment, self._environment.usage()))

    def _with(self, work: Callable[[Any], T]) -> T:
        if self._closed:
            raise StoreError(f"{self.path}: the store is closed")
        try:
            return self._environment.use(work)
        except lmdb.Error as error:
            raise StoreError(f"{self.path}: {explain(error)}") from error


def _encoded(keys: Sequence[str]) -> list[bytes]:
    try:
        return list(map(str.encode, keys))
    except UnicodeEncodeError:  # lone surrogates; to allow for them costs the others time
        return list(utf8_each(keys))


def _read(environment: Any, keys: Sequence[bytes]) -> list[bytes | None]:
    with environment.begin() as transaction:
        get = transaction.get
        return [get(key) if _fits(key) else None for key in keys]


def _read_joined(environment: Any, keys: Sequence[bytes]) -> bytes | list[bytes | None]:
    """Copy values once, to where they are joined, if all are there and of one length."""
    with environment.begin(buffers=True) as transaction:
        values = list(map(transaction.get, keys))
        if all(values) and len(set(map(len, values))) == 1:
            return b"".join(values)
        return [None if value is None else bytes(value) for value in values]


def _write(environment: Any, tree: Any = None, *, entries: Mapping[str, bytes]) -> None:
    encoded = list(utf8_each(entries))
    if not _all_fit(encoded):
        raise _no_key(next(itertools.filterfalse(_fits, encoded)))
    with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
        cursor.putmulti(zip(encoded, entries.values(), strict=True))
        if tree is not None:
            lmdb_usage.note_written(transaction, tree, encoded)


def _size(environment: Any) -> int:
    return int((environment.info()["last_pgno"] + 1) * environment.stat()["psize"])


def _page(environment: Any, prefix: bytes, after: bytes) -> list[bytes]:
    page: list[bytes] = []
    with environment.begin() as transaction, transaction.cursor() as cursor:
        if not cursor.set_range(max(prefix, after, _FIRST_KEY)):
            return page
        for key in cursor.iternext(keys=True, values=False):
            if not key.startswith(prefix) or len(page) == _PAGE:
                break
            if key != after:
                page.append(key)
    return page


def _expired(environment: Any, after: bytes, now: float) -> tuple[bytes | None, list[bytes]]:
    """Look at the next entries after a key: give the last one, and those that have expired."""
    last: bytes | None = None
    expired: list[bytes] = []
    with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
        if cursor.set_range(max(after, _FIRST_KEY)):
            for key, value in itertools.islice(cursor.iternext(), _PAGE):
                if entry.has_expired(value, now=now):
                    expired.append(bytes(key))
                last = bytes(key)
    return None if last == after else last, expired


def _reclaim(environment: Any, keys: Sequence[bytes], now: float) -> int:
    """Delete those of the keys that were not written anew meanwhile; tell how many."""
    count = 0
    with environment.begin(write=True, buffers=True) as transaction:
        for key in keys:
            value = transaction.get(key)
            if value is not None and entry.has_expired(value, now=now):
                count += transaction.delete(key)
    return count


def _no_key(key: bytes) -> StoreRefusedError:
    return StoreRefusedError(
        f"LMDB keys have 1 to {_MAX_KEY} bytes and begin with no control character; "
        f"{key[:60].decode(errors='replace')!r}… has {len(key)}"
    )


def _fits(key: bytes) -> bool:
    return 0 < len(key) <= _MAX_KEY and key >= _FIRST_KEY


def _all_fit(keys: Sequence[bytes]) -> bool:
    return not keys or (min(keys) >= _FIRST_KEY and max(map(len, keys)) <= _MAX_KEY)
