"""What an event loop does on an SQLite file itself: it takes less time than to start a thread."""

import itertools
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from askonce.core.store import SLOW, SLOW_FOR
from askonce.errors import StoreError
from askonce.stores.database import Database

T = TypeVar("T")

_THREAD_EVERY = 64
"""Of so many changes one is a thread's, which writes the log back if it has become long."""


class Unwaiting:
    """Work on a database only if nobody else writes just now, and if it was not slow lately.

    One connection does it all as long as one loop does: it need not read again what it wrote.
    """

    def __init__(self, database: Database) -> None:
        self._database = database.unwaiting()
        self._changes = itertools.count(1)
        self._slow_until = 0.0

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do work that only reads, or give None: a thread does it then, and tells what is wrong."""
        return self._attempt(work, self._database.run)

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do work that writes, or give None; see `read`."""
        # Claims alone make a log, too.
        if next(self._changes) % _THREAD_EVERY == 0:
            return None
        return self._attempt(work, self._database.change)

    def _attempt(
        self,
        work: Callable[[sqlite3.Connection], T],
        do: Callable[[Callable[[sqlite3.Connection], T | None]], T | None],
    ) -> T | None:
        def trial(connection: sqlite3.Connection) -> T | None:
            try:
                return work(connection)
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    return None
                # What failed otherwise leaves a connection that is better opened anew.
                raise

        began = time.monotonic()
        if began < self._slow_until:
            return None
        try:
            return do(trial)
        except StoreError:
            return None
        finally:
            if time.monotonic() - began > SLOW:
                self._slow_until = began + SLOW_FOR

    def close(self) -> None:
        """Close the connection; work under way finishes first."""
        self._database.close()
