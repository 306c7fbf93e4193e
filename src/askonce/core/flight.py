"""Calls under way: whoever wants what is being asked for waits instead of asking too."""

import asyncio
import contextlib
import math
import os
import threading
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError

from askonce.core import fork


class Flight:
    """Be one call under way for some keys.

    `landed` gives the entries it brought; a key that is not among them was not answered. `held`
    numbers the piece of a stream that its leader's caller holds on to, 0 while there is none: as
    long as that is so nothing is under way. `began` is the leader's own note of when it asked, in
    seconds since 1970; infinity if it took none.
    """

    __slots__ = ("_followers", "_owner", "began", "held", "keys", "landed")

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        self.landed: Future[Mapping[str, bytes]] = Future()
        self.held = 0
        self.began = math.inf
        self._owner = _current()
        self._followers: list[None] = []

    @contextlib.contextmanager
    def followed(self) -> Generator[None]:
        """Count the caller among those who wait, as long as the block lasts."""
        # A list, for its changes are whole also if threads make them at the same moment.
        self._followers.append(None)
        try:
            yield
        finally:
            self._followers.pop()

    @property
    def is_awaited(self) -> bool:
        """Tell whether somebody in this process waits for what the flight brings."""
        return bool(self._followers)

    def is_mine(self, *, blocking: bool) -> bool:
        """Tell whether waiting would never end, because the caller itself leads this flight.

        A caller that blocks its thread also holds up every task of that thread's event loop.
        """
        thread, task = _current()
        return self._owner[0] == thread and (blocking or self._owner[1] == task)

    def hand_over(self) -> None:
        """Let somebody else land this flight: then its leader may wait for it like all others."""
        self._owner = (0, 0)


class Flights:
    """Keep the flights of one store, shared by its threads and event loops.

    A forked process begins with none: the threads that lead them are not in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._process = os.getpid()
        self._flights: dict[str, Flight] = {}

    def claim(self, keys: Iterable[str], *, limit: int | None = None) -> Flight | None:
        """Begin a flight for up to `limit` of the keys that nobody is asking for.

        None means that others ask for all of them: `under_way` tells which.
        """
        with self._lock:
            flights = self._of_this_process()
            mine: list[str] = []
            for key in keys:
                if key not in flights:
                    mine.append(key)
                    if len(mine) == limit:
                        break
            return self._begin(mine) if mine else None

    def take_over(self, keys: Iterable[str]) -> Flight:
        """Begin a flight for keys whose own flight was given up on."""
        with self._lock:
            return self._begin(list(keys))

    def under_way(self, keys: Iterable[str]) -> list[Flight]:
        """Give the flights that will bring some of these keys."""
        with self._lock:
            flights = self._of_this_process()
            return list({id(f): f for f in map(flights.get, keys) if f}.values())

    def land(self, flight: Flight, entries: Mapping[str, bytes]) -> None:
        """End a flight and hand what it brought to all who wait."""
        with self._lock:
            for key in flight.keys:
                if self._flights.get(key) is flight:
                    del self._flights[key]
        # Of several who end one flight at the same moment, the first decides what it brought.
        with contextlib.suppress(InvalidStateError):
            flight.landed.set_result(entries)

    def _begin(self, keys: list[str]) -> Flight:
        flight = Flight(keys)
        self._of_this_process().update(dict.fromkeys(keys, flight))
        return flight

    def _of_this_process(self) -> dict[str, Flight]:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._flights.clear()
        return self._flights


def _current() -> tuple[int, int]:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task) if task else 0
