"""How many tokens passages are, and what they cost."""

from dataclasses import dataclass, field
from typing import Any

from askonce.providers.extras import import_extra
from askonce.providers.tokens import counter, estimate

_BYTES_PER_TOKEN = 4.0
"""Of English prose; where a tokenizer is at hand, samples of the corpus decide."""

_FIRST = 256
_EACH = 64
_MOST = 2000


@dataclass
class Samples:
    """Take texts from all over a corpus while it streams by."""

    texts: list[str] = field(default_factory=list[str])
    _seen: int = 0

    def offer(self, text: str) -> None:
        """Take this text, or leave it."""
        if len(self.texts) < _MOST and (self._seen < _FIRST or self._seen % _EACH == 0):
            self.texts.append(text)
        self._seen += 1

    def tokens_per_byte(self, model: str) -> float:
        """Measure with the model's tokenizer if it is on this machine, else assume."""
        count = counter(model)
        size = sum(len(text.encode()) for text in self.texts)
        if count is estimate or not size:
            return 1 / _BYTES_PER_TOKEN
        return sum(map(count, self.texts)) / size


def price_of(model: str, *, base_url: str | None) -> float | None:
    """Look up what a token costs in dollars, in the table of genai-prices; None if unknown."""
    prices: Any = import_extra("genai_prices", "bulk", "the price of a job")
    usage = prices.Usage(input_tokens=1_000_000)
    where = {"provider_api_url": base_url} if base_url else {"provider_id": "openai"}
    try:
        return float(prices.calc_price(usage, model, **where).total_price) / 1_000_000
    except LookupError:
        return None
