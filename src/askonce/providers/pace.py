"""How fast one may ask."""

import threading


class Pace:
    """Spread requests evenly over time, those of all threads together.

    Time is an argument, in seconds of any steady clock. No `requests_per_minute` is no limit.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._step = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._free = -float("inf")
        self._lock = threading.Lock()

    def reserve(self, *, now: float) -> float:
        """Take the next place; give the seconds until it comes."""
        with self._lock:
            start = max(self._free, now)
            self._free = start + self._step
            return start - now

    def pause(self, seconds: float, *, now: float) -> None:
        """Let nobody ask for so many seconds: the provider wants it so."""
        with self._lock:
            self._free = max(self._free, now + seconds)
