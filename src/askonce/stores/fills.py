"""Look-ups that are about to fill a near tier, and the changes that must not be undone by them."""

import contextlib
import threading
from collections.abc import Collection, Generator

from askonce.core import fork


class Fills:
    """Keep what was read before a change from being put into the near tier after it.

    A fill is a set of keys; a change takes the keys that it touches out of all fills under way,
    and as long as it lasts no fill begins with them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._under_way: list[set[str]] = []
        self._changing: list[tuple[Collection[str], str | None]] = []

    @contextlib.contextmanager
    def begin(self, keys: Collection[str]) -> Generator[set[str]]:
        """Give the set of keys that may be filled; others take keys out of it at any time."""
        with self._lock:
            fill = set(keys)
            for touched, prefix in self._changing:
                _take_out(fill, touched, prefix)
            self._under_way.append(fill)
        try:
            yield fill
        finally:
            with self._lock:
                self._under_way = [other for other in self._under_way if other is not fill]

    @contextlib.contextmanager
    def hold(self, keys: Collection[str] = (), prefix: str | None = None) -> Generator[None]:
        """Keep keys, or all that start with a prefix, from being filled inside this block."""
        change = (keys, prefix)
        with self._lock:
            self._changing.append(change)
            for fill in self._under_way:
                _take_out(fill, keys, prefix)
        try:
            yield
        finally:
            with self._lock:
                self._changing = [other for other in self._changing if other is not change]


def _take_out(fill: set[str], keys: Collection[str], prefix: str | None) -> None:
    fill.difference_update(keys)
    if prefix is not None:
        fill.difference_update([key for key in fill if key.startswith(prefix)])
