"""What a request has cost, and who pays for it."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from askonce.events import Event
from askonce.gateway.api_keys import ApiKey
from askonce.gateway.config import Price

_BYTES_A_TOKEN: Final = 3
_STREAMED_BYTES_A_TOKEN: Final = 100
"""A stream of events repeats itself with each token; both are on the side of too many tokens."""

_MILLION: Final = 1e6


@dataclass(slots=True)
class Bill:
    """Gather what one request costs: what its provider tells, else by the length of what passed.

    `asked` tells whether it went to a provider, and `told` what that counted, in dollars.
    """

    key: ApiKey
    model: str = ""
    asked: bool = False
    told: float | None = None


current: ContextVar[Bill | None] = ContextVar("askonce_bill", default=None)
"""The bill of the request that is being answered; what it starts inherits it."""


@dataclass(frozen=True)
class Prices:
    """Know what models cost: by the table of the configuration, else by the public one."""

    table: Sequence[Price] = field(default_factory=tuple)

    def knows(self, model: str) -> bool:
        """Tell whether there is a price for a model."""
        return self.of(model, 1, 1) is not None

    def of(self, model: str, asked: int, said: int, cached: int = 0) -> float | None:
        """Give the dollars for so many tokens, None if nobody knows."""
        for price in self.table:
            if fnmatchcase(model, price.model):
                return (asked * price.input + said * price.output) / _MILLION
        event = Event(
            "miss", model=model, input_tokens=asked, output_tokens=said, cached_tokens=cached
        )
        return event.price

    def note(self, event: Event) -> None:
        """Write onto the current bill what an event tells of its cost."""
        bill = current.get()
        if bill is None or event.kind != "miss" or event.input_tokens is None:
            return
        dollars = self.of(
            # The provider names what a price is known of, or the caller's own name does.
            event.model if self.knows(event.model) else bill.model,
            event.input_tokens,
            event.output_tokens or 0,
            event.cached_tokens or 0,
        )
        if dollars is not None:
            bill.told = (bill.told or 0.0) + dollars

    def settle(self, bill: Bill, *, read: int, sent: int, streamed: bool) -> float:
        """Give the dollars that a request has cost, by its lengths in bytes if nobody told."""
        if not bill.asked:
            return 0.0
        if bill.told is not None:
            return bill.told
        said = sent // (_STREAMED_BYTES_A_TOKEN if streamed else _BYTES_A_TOKEN)
        return self.of(bill.model, read // _BYTES_A_TOKEN, said) or 0.0
