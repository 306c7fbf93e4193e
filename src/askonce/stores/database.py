"""An SQLite file as our stores use it: many threads, many processes, forks, clear errors."""

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from askonce.core import fork
from askonce.errors import StoreError

T = TypeVar("T")

_BUSY_SECONDS = 30.0
LOG_BYTES = 2**25
"""SQLite's own choice, a thousand pages, in the pages that we make."""

_MAPPED = 2**40
"""Bytes of a file to read where the system keeps them, not copied first; SQLite takes 2 GB."""

_SECOND = 10**9
_SOME_TICKS = 10**8
"""Nanoseconds; ticks are 10 ms at most."""

_LOG_EXCESS = 4
_PATIENCE = 0.5


class Database:
    """Be one SQLite file, made for the owner only, with write-ahead logging.

    `synchronous` "NORMAL" keeps the file whole through a power cut, "OFF" is for what may be lost
    then. The log beside the file is written back when it holds `log_bytes`, and begun anew as soon
    as nobody reads from it; `trim_log` sees to that where somebody always does. Unless it `waits`,
    work fails where another writes, and writing the log back is left to others.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["NORMAL", "OFF"] = "NORMAL",
        log_bytes: int = LOG_BYTES,
        waits: bool = True,
        writing: "threading.Lock | None" = None,
    ) -> None:
        self.path = path
        self._waits = waits
        if writing is None:
            # Before the room of the connections, which is entered with it in hand.
            fork.hold_still(writing := threading.Lock())
        self._writing = writing
        self._synchronous: Literal["NORMAL", "OFF"] = synchronous
        self.log_bytes = log_bytes
        # SQLite follows links, and puts the log beside the file itself.
        self._log_name = os.path.realpath(path) + "-wal"
        self.log = Path(self._log_name)
        self._longest_log = log_bytes * _LOG_EXCESS
        self._trim_after = 0.0
        self._connections = _Connections(path, synchronous, log_bytes if waits else 0, waits=waits)
        weakref.finalize(self, self._connections.close)
        if waits:
            self._make_file()

    def unwaiting(self) -> "Database":
        """Give the same file for work that must not wait; it is closed by itself.

        Raises StoreError if this one has been closed: what comes late must not open it anew.
        """
        self._connections.check_open()
        return Database(
            self.path, synchronous=self._synchronous, waits=False, writing=self._writing
        )

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work on a connection of our own. Raises StoreError that says what is wrong."""
        try:
            return self._connections.use(work)
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise StoreError(f"{self.path}: {_explain(error)}") from error

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work that writes, one after the other in this process; see `run`.

        Whoever waits for another's lock on the file sleeps much longer than a change takes.
        """
        # As long as for another process: where one holds the file, no queue may grow behind it.
        if not self._writing.acquire(timeout=_BUSY_SECONDS if self._waits else 0):
            raise StoreError(f"{self.path}: another thread is writing")
        try:
            return self.run(work)
        finally:
            self._writing.release()

    def stamp(self) -> tuple[int, int, int] | None:
        """Give what is another one after every commit; None where that cannot be told.

        Each commit is written to the log. Files have the time of the kernel's last tick, so one
        that was just written to could be again without a trace; some file systems know but whole
        seconds; Windows notes times when it likes; and an empty log is none to SQLite, which may
        write to the file itself then.
        """
        if os.name != "posix":
            return None
        try:
            found = os.stat(self._log_name)  # noqa: PTH116  in a third of the time
        except OSError:
            return None
        written = found.st_mtime_ns
        is_fresh = time.time_ns() - written < _SOME_TICKS
        if is_fresh or not written % _SECOND or not found.st_size:
            return None
        return written, found.st_size, found.st_ino

    def trim_log(self) -> None:
        """Empty the log if it has become long, and let readers finish for that."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > self._longest_log and time.monotonic() > self._trim_after:
                deadline = time.monotonic() + _PATIENCE
                while not self.run(_empty_log) and self.log.stat().st_size > self._longest_log:
                    if time.monotonic() > deadline:
                        # Somebody reads for long: writers are not to wait for that each time.
                        self._trim_after = deadline + _BUSY_SECONDS
                        break
                    time.sleep(0.002)

    def close(self) -> None:
        """Close every connection; work under way finishes first."""
        self._connections.close()

    def _make_file(self) -> None:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder; an SQLite store is a file")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            os.close(os.open(self.path, flags, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(f"cannot make the SQLite store {self.path}: {error}") from error


def create(
    connection: sqlite3.Connection, schema: str, *, page_size: int, log_bytes: int = LOG_BYTES
) -> None:
    """Make tables that are not there yet, also when several processes do so at once."""
    connection.execute(f"PRAGMA page_size = {page_size}")
    persist(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
    with transaction(connection):
        for statement in schema.split(";"):
            connection.execute(statement)
    _limit_log(connection, log_bytes)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Do all or nothing, as the only writer."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def write(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Execute a statement for each row, for all of them or none."""
    if len(rows) == 1:
        connection.execute(statement, rows[0])
    else:
        with transaction(connection):
            connection.executemany(statement, rows)


def persist(attempt: Callable[[], T]) -> T:
    """Try again while the file is locked: some statements do not wait by themselves."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Write the log back and cut it off; tell whether that was done."""
    connection.execute(f"PRAGMA busy_timeout = {int(_PATIENCE * 1000)}")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
    return not busy


class _Connections:
    """Lend the connections to one file, each to one thread at a time.

    SQLite's connections must not cross a fork, not even idle: the child would believe to hold
    locks that only its parent has, and lose what it writes once the parent closes the file.
    """

    def __init__(self, path: Path, synchronous: str, log_bytes: int, *, waits: bool) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._synchronous = synchronous
        self._log_bytes = log_bytes
        self._busy_seconds = _BUSY_SECONDS if waits else 0.0
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._size = 0
        self._room = fork.Room(self._close_idle)

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._room:
            self.check_open()
            self._mind_its_size()
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                outcome = work(connection)
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            if self._closed:
                self._close_idle()
            return outcome

    def check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._path}: the store is closed")

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA cache_size = -16384")
            _limit_log(connection, self._log_bytes)
            connection.execute(f"PRAGMA mmap_size = {_MAPPED}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _mind_its_size(self) -> None:
        """Open a file anew that somebody has cut off.

        To read what a connection has mapped, and is no longer there, would end the process.
        """
        try:
            size = os.stat(self._name).st_size  # noqa: PTH116  in a third of the time
        except OSError:
            return
        if size < self._size:
            self._close_idle()
        self._size = size

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


def _limit_log(connection: sqlite3.Connection, log_bytes: int) -> None:
    """Write the log back whenever it holds so many bytes, never for 0."""
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA wal_autocheckpoint = {-(-log_bytes // page_size)}")


def _explain(error: Exception) -> str:
    message = str(error)
    if isinstance(error, UnicodeEncodeError):
        return f"a key that UTF-8 cannot hold: {message}"
    if "not a database" in message:
        return "the file is not an SQLite database; choose another path or move the file away"
    if "readonly" in message or "unable to open" in message:
        return f"{message}; check that the file and its folder may be written"
    return message
