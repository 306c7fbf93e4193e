"""Reading from a store beside other work."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from askonce.core.store import Store


@dataclass(frozen=True, slots=True)
class Reading:
    """Be a read that was begun, or that nobody could be found for, then without an outcome."""

    keys: Sequence[str]
    outcome: Future[bytes | list[bytes | None]] | None


class Reader:
    """Read from a store on one other thread, begun with the first read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread: ThreadPoolExecutor | None = None
        self._under_way = 0

    def begin(self, keys: Sequence[str]) -> Reading:
        """Begin to read these keys, joined, in the caller's context."""
        thread = self._thread or ThreadPoolExecutor(1, "askonce-read")
        try:
            outcome = thread.submit(copy_context().run, self._store.read_joined, keys)
        except RuntimeError:  # too many threads, or the interpreter is ending
            return Reading(keys, None)
        self._thread = thread
        self._under_way += 1
        return Reading(keys, outcome)

    def finish(self, reading: Reading) -> bytes | list[bytes | None]:
        """Wait for what was begun. Raises what the store raised."""
        if reading.outcome is None:
            return self._store.read_joined(reading.keys)
        try:
            return reading.outcome.result()
        finally:
            if reading.outcome.done():
                self._under_way -= 1

    def close(self) -> None:
        """End the thread; who leaves in the middle does not wait for what is under way."""
        if self._thread is not None:
            self._thread.shutdown(wait=not self._under_way, cancel_futures=True)
            self._thread = None
