"""The engine's threads in the life of a process: they are in no fork, and must not outlive Python.

A thread of the engine that hands over what it got while the interpreter ends aborts the process.
"""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Generator

from askonce.core import fork
from askonce.errors import StoreError

_PATIENCE = 1.0
_LET_GO = 0.02
"""After a request has ended its thread still lets go of Python's objects, for microseconds."""


class _Traffic:
    """Count the requests under way; there are none any more after the end of the process."""

    def __init__(self) -> None:
        self._idle = threading.Condition()
        fork.hold_still(self._idle)
        self._process: int | None = None
        self._count = 0
        self._ended = False

    @contextlib.contextmanager
    def request(self, shown: str) -> Generator[None]:
        """Hold the process for the time of a request. Raises StoreError in a fork."""
        with self._idle:
            if self._process is None:
                self._process = os.getpid()
                atexit.register(self._end)
            if self._process != os.getpid():
                raise StoreError(
                    f"{shown} cannot be used in a process that was forked from one that used an "
                    "object store: start processes with the method 'spawn' or 'forkserver'"
                )
            if self._ended:
                raise StoreError(f"{shown} cannot be used: the process ends")
            self._count += 1
        try:
            yield
        finally:
            with self._idle:
                self._count -= 1
                self._idle.notify_all()

    def _end(self) -> None:
        if self._process != os.getpid():
            return
        with self._idle:
            self._ended = True
            self._idle.wait_for(lambda: not self._count, _PATIENCE)
        time.sleep(_LET_GO)


traffic = _Traffic()
