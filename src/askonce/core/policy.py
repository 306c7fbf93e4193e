"""For how long an answer is good. Time is an argument here, never asked for."""

import math

from askonce.core.entry import NEVER
from askonce.errors import InputError


def check_ttl(ttl: float | None) -> float | None:
    """Check a time to live in seconds; None is for ever. Raises InputError."""
    if ttl is not None and not ttl > 0:
        raise InputError(f"ttl is {ttl!r}; give a number of seconds above 0, or None for ever")
    return ttl


def expires_at(ttl: float | None, *, now: float) -> float:
    """Tell when an answer of this moment stops being good."""
    # However short the time, an answer is good for the call that brought it.
    return NEVER if ttl is None else max(now + ttl, math.nextafter(now, math.inf))


def is_fresh(expires: float, *, now: float) -> bool:
    """Tell whether an answer with this end is still good."""
    return expires > now
