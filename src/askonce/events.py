"""What happened to a request, as one frozen record handed to a callable."""

import functools
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["hit", "miss", "stored", "refused", "store_failed", "store_back"]

Code = Literal[
    "",
    # the request
    "unreadable",
    "not_cacheable",
    "random",
    "no_store",
    "unidentified",
    # what the provider did
    "no_answer",
    "provider_status",
    "not_whole",
    # the answer
    "error",
    "malformed",
    "unfinished",
    "length",
    "content_filter",
    "refusal",
    "too_long",
    "not_plain",
    "keep_hook",
]
"""Why an answer was refused, for programs: a few words that stay, "" for none of them."""


@dataclass(frozen=True, slots=True)
class Event:
    """Tell what happened to one or more keys.

    `count` is how many keys the event speaks of, `reason` why an answer was refused and `code` the
    same for programs, `error` what a failing store raised; a remote one that goes on failing tells
    it once, and when it is back.
    Of an answer whose provider told: `input_tokens` (of which `cached_tokens` were in the
    provider's own cache), `output_tokens`, and the `seconds` that the provider took. A hit saved
    them, a miss spent them; None is unknown.
    """

    kind: Kind
    count: int = 1
    namespace: str = ""
    model: str = ""
    seconds: float = 0.0
    reason: str = ""
    error: BaseException | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    code: Code = ""

    @property
    def price(self) -> float | None:
        """Give the dollars that the tokens cost, or would have: None if anything is unknown.

        The prices are those of the package genai-prices (extra `prices`).
        """
        if self.input_tokens is None:
            return None
        return _price(
            self.model, self.input_tokens, self.output_tokens or 0, self.cached_tokens or 0
        )


Observer = Callable[[Event], None]

_log = logging.getLogger("askonce")


def log(event: Event) -> None:
    """Log the store's failing and its return as warnings, a refusal as information, else debug."""
    if event.kind == "store_failed":
        _log.warning("the store failed, the call went on without it: %s", event.error)
    elif event.kind == "store_back":
        _log.warning("the store is back: %s", event.reason)
    elif event.kind == "refused":
        _log.info("not stored: %s", event.reason)
    else:
        _log.debug("%s: %d in %s", event.kind, event.count, event.namespace or "default")


def load_prices() -> None:
    """Read the table of prices now, which takes as long as some hundred answers."""
    _price("gpt-4o-mini", 1, 1, 0)


# Finding a price takes many times as long as a hit, and a hit is found again by its tokens.
@functools.lru_cache(maxsize=1 << 16)
def _price(model: str, asked: int, said: int, cached: int) -> float | None:
    try:
        prices: Any = importlib.import_module("genai_prices")
    except ImportError:
        return None
    try:
        usage = prices.Usage(input_tokens=asked, output_tokens=said, cache_read_tokens=cached)
        return float(prices.calc_price(usage, model).total_price)
    except (LookupError, ValueError):
        # A model that is not in the table, or numbers that make no sense.
        return None
