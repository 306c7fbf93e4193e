"""What happened to a request, as one frozen record handed to a callable."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["hit", "miss", "stored", "refused", "store_failed"]


@dataclass(frozen=True, slots=True)
class Event:
    """Tell what happened to one or more keys.

    `count` is how many keys the event speaks of, `seconds` how long the step took,
    `reason` why an answer was refused, `error` what a failing store raised.
    """

    kind: Kind
    count: int = 1
    namespace: str = ""
    model: str = ""
    seconds: float = 0.0
    reason: str = ""
    error: BaseException | None = None


Observer = Callable[[Event], None]

_log = logging.getLogger("askonce")


def log(event: Event) -> None:
    """Log a failing store as a warning, a refusal as information, the rest as debug."""
    if event.kind == "store_failed":
        _log.warning("the store failed, the call went on without it: %s", event.error)
    elif event.kind == "refused":
        _log.info("not stored: %s", event.reason)
    else:
        _log.debug("%s: %d in %s", event.kind, event.count, event.namespace or "default")
