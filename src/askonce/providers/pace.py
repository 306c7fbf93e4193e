"""How fast one may ask."""

import threading


class Pace:
    """Spread requests, or whatever else is counted, evenly over time, all threads together.

    Time is an argument, in seconds of any steady clock. No rate `per_minute` is no limit.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._step = 60.0 / per_minute if per_minute else 0.0
        self._free = -float("inf")
        self._lock = threading.Lock()

    def reserve(self, count: int = 1, *, now: float) -> float:
        """Take the next place, or so many in a row; give the seconds until the first comes."""
        with self._lock:
            start = max(self._free, now)
            self._free = start + count * self._step
            return start - now

    def pause(self, seconds: float, *, now: float) -> None:
        """Let nobody ask for so many seconds: the provider wants it so."""
        with self._lock:
            self._free = max(self._free, now + seconds)
