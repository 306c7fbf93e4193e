"""Asking a store that may be busy, for work that has time."""

import time
from collections.abc import Callable
from typing import TypeVar

from askonce.errors import StoreError, StoreRefusedError, StoreUnavailableError

T = TypeVar("T")

PATIENCE = 30.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


def patiently(work: Callable[[], T], *, seconds: float = PATIENCE) -> T:
    """Do work, and again for so many seconds while the store is only unavailable.

    Raises StoreError: what a store refuses at once, and any other failure when it comes twice.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    failed: StoreError | None = None
    while True:
        try:
            return work()
        except StoreRefusedError:
            raise
        except StoreUnavailableError as error:
            if time.monotonic() > deadline:
                raise failed or error from error
        except StoreError as error:
            if failed is not None or time.monotonic() > deadline:
                raise
            failed = error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
