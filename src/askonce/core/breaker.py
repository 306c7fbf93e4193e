"""A breaker: whether to ask a server that has just failed, decided without a clock.

It opens at the first failure, for a pause that is short at first: a single slow answer costs a
few missed look-ups, a dead server costs each caller nothing but one probe after every pause.
"""

import random
import threading
from collections.abc import Callable
from typing import Literal

from askonce.core import fork

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
_PROBE_SECONDS = 10.0
"""A probe of which nothing is heard for so long is given up, and another one may go."""

Admission = Literal["pass", "probe", "refuse"]


class Breaker:
    """Let everything pass until something fails, then one probe after each pause, until one works.

    Pauses are in seconds and double with each failed probe; `chance` (from 0 to 1) shortens each
    by up to a half, so that many hosts do not come back at the same moment. `now` is any clock.
    """

    def __init__(
        self,
        *,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = first_pause
        self._longest = longest_pause
        self._chance = chance
        self._pause = 0.0
        self._due = 0.0
        self._lock = threading.Lock()
        fork.hold_still(self._lock)

    @property
    def is_closed(self) -> bool:
        """Tell whether everything passes."""
        return not self._pause

    def admit(self, now: float) -> Admission:
        """Decide about one operation; a "probe" must be reported on by one of the verbs below."""
        if not self._pause:
            return "pass"
        with self._lock:
            if not self._pause:
                return "pass"
            if now < self._due:
                return "refuse"
            self._due = now + _PROBE_SECONDS
            return "probe"

    def worked(self, *, probing: bool) -> bool:
        """Take in a success and tell whether it closed the breaker.

        Only a probe's does: what was sent before the failure may come back after it.
        """
        with self._lock:
            closed = probing and self._pause > 0
            if closed:
                self._pause = 0.0
        return closed

    def failed(self, now: float, *, probing: bool) -> bool:
        """Take in a failure and tell whether it opened the breaker.

        What fails while it is open, and is no probe, was under way already and tells nothing new.
        """
        with self._lock:
            opened = not self._pause
            if opened or probing:
                self._pause = min(2 * self._pause, self._longest) or self._first
                self._due = now + self._pause * (1 - self._chance() / 2)
        return opened

    def gave_up(self, now: float) -> None:
        """Take in a probe that ended without telling anything; another one may go at once."""
        with self._lock:
            self._due = now

    def seconds_left(self, now: float) -> float:
        """Tell how long it takes until the next probe may go."""
        return max(0.0, self._due - now) if self._pause else 0.0
