"""The fastest store for reading: LMDB, a memory-mapped tree for many threads and processes."""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from askonce.core import fork
from askonce.core.entry import NEVER
from askonce.core.keys import utf8
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import MissingExtraError, StoreError
from askonce.stores import Location
from askonce.stores.sqlite_leases import SQLiteLeases

try:
    import lmdb
except ImportError as error:
    raise MissingExtraError("lmdb", "lmdb", "the store lmdb://") from error

T = TypeVar("T")

_SPARSE_MAP = 1024**4
_SMALL_MAP = 1024**3
_MAX_READERS = 2048
_PAGE = 1000
_MAX_KEY = 511


class LMDBStore(Store):
    """Keep entries in an LMDB environment, a folder made for the owner only.

    A commit survives the death of the process at once; after a power cut the last commits may be
    missing, none is torn. `map_size` is the most bytes the store may ever hold: address space,
    not disk, except on Windows.
    """

    def __init__(self, path: str | os.PathLike[str], *, map_size: int | None = None) -> None:
        self.path = Path(path).absolute()
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; an LMDB store is a folder")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the LMDB store {self.path}: {error}") from error
        self._closed = False
        self._environment = _share(self.path, map_size)

    @classmethod
    def open(cls, location: Location) -> "LMDBStore":
        """Open `lmdb:///folder`, whose one option is `map_size`."""
        location.only_options("map_size")
        map_size = location.size_option("map_size", 0)
        return cls(location.file_path(), map_size=map_size or None)

    @functools.cached_property
    def leases(self) -> Leases:
        return SQLiteLeases(self.path / "leases.db")

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        def work(environment: Any) -> list[bytes | None]:
            with environment.begin() as transaction:
                get = transaction.get
                return [get(key) if _fits(key) else None for key in map(utf8, keys)]

        return self._with(work)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        def work(environment: Any) -> None:
            with environment.begin(write=True) as transaction:
                for key, value in entries.items():
                    transaction.put(_key(key), value)

        self._with(work)

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

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._close_leases()
            _release(self._environment)

    def _with(self, work: Callable[[Any], T]) -> T:
        if self._closed:
            raise StoreError(f"{self.path}: the store is closed")
        try:
            return self._environment.use(work)
        except lmdb.Error as error:
            raise StoreError(f"{self.path}: {_explain(error)}") from error


class _Environment:
    """Be the one environment that a process may have open for a path.

    It must not cross a fork: it is closed before, and opened again when next used.
    """

    def __init__(self, path: Path, map_size: int | None) -> None:
        self.path = path
        self.users = 0
        self._map_size = map_size
        self._opened: Any = _open(path, map_size)
        self._opening = threading.Lock()
        self.room = fork.Room(self._close)

    def use(self, work: Callable[[Any], T]) -> T:
        with self.room:
            return work(self._opened or self._open_again())

    def _open_again(self) -> Any:
        with self._opening:
            if not self.users:
                raise StoreError(f"{self.path}: the store is closed")
            if self._opened is None:
                self._opened = _open(self.path, self._map_size)
            return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


_environments: dict[Path, _Environment] = {}
_lock = threading.Lock()
fork.hold_still(_lock)


def _share(path: Path, map_size: int | None) -> _Environment:
    real = path.resolve()
    with _lock:
        environment = _environments.get(real)
        if environment is None:
            environment = _environments[real] = _Environment(real, map_size)
        environment.users += 1
        return environment


def _release(environment: _Environment) -> None:
    with _lock:
        environment.users -= 1
        if not environment.users:
            _environments.pop(environment.path, None)
            environment.room.acquire()
            environment.room.release()


def _open(path: Path, map_size: int | None) -> Any:
    size = map_size or (_SMALL_MAP if os.name == "nt" else _SPARSE_MAP)
    while True:
        try:
            environment = lmdb.open(
                str(path),
                map_size=size,
                mode=0o600,
                metasync=False,
                max_readers=_MAX_READERS,
                readahead=False,
                max_dbs=0,
            )
        except lmdb.Error as error:
            if isinstance(error, lmdb.MemoryError) and not map_size and size > _SMALL_MAP:
                size //= 4
                continue
            raise StoreError(f"cannot open the LMDB store {path}: {_explain(error)}") from error
        environment.reader_check()
        return environment


def _page(environment: Any, prefix: bytes, after: bytes) -> list[bytes]:
    page: list[bytes] = []
    with environment.begin() as transaction, transaction.cursor() as cursor:
        if not cursor.set_range(max(prefix, after)):
            return page
        for key in cursor.iternext(keys=True, values=False):
            if not key.startswith(prefix) or len(page) == _PAGE:
                break
            if key != after:
                page.append(key)
    return page


def _key(key: str) -> bytes:
    encoded = utf8(key)
    if not _fits(encoded):
        raise StoreError(f"LMDB keys have 1 to {_MAX_KEY} bytes; {key[:60]!r}… has {len(encoded)}")
    return encoded


def _fits(key: bytes) -> bool:
    return 0 < len(key) <= _MAX_KEY


def _explain(error: Exception) -> str:
    if isinstance(error, lmdb.MapFullError):
        return "the store is full; open it with a larger map_size, like lmdb:///dir?map_size=2TB"
    if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
        return f"{error}; the folder does not hold an LMDB environment this version can read"
    return str(error)
