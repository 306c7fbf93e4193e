"""What a job would do, before it does it."""

import math
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from askonce.bulk.models import Model
from askonce.bulk.passages import Passage, Refused, Row
from askonce.bulk.stopping import Brake
from askonce.bulk.tokens import Samples
from askonce.core.keys import utf8
from askonce.embeddings import EmbeddingCache
from askonce.errors import InputError
from askonce.lookahead import in_order

_WINDOW = 1024
_MEASURED = 64
_PARTS = 16


@dataclass(frozen=True)
class Plan:
    """Tell what there is to do.

    `tokens` are estimated, those to ask for; `price` is dollars, None if unknown; `minutes` are
    at the given or measured rate, None without one. `dimensions` are those of stored vectors.
    """

    passages: int
    refused: int
    unique: int
    cached: int
    tokens: int
    tokens_per_byte: float
    price: float | None
    requests: int
    minutes: float | None
    dimensions: int | None

    @property
    def to_ask(self) -> int:
        """Count the texts that must be asked for."""
        return self.unique - self.cached

    @property
    def rows(self) -> int:
        """Count all rows, refused ones too."""
        return self.passages + self.refused


class _Texts:
    """Count the different ones of many texts, in twelve bytes a text.

    Python's own 64-bit hashes tell them apart: among ten million two share one with a chance of
    1 in 300,000, and then the count is one off.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sizes = array("I")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, text: str) -> None:
        """Add a text."""
        self._hashes.append(hash(text))
        self._sizes.append(len(utf8(text)))

    def unique(self) -> tuple[int, int]:
        """Count the different texts, and their bytes."""
        if not self._hashes:
            return 0, 0
        hashes = np.frombuffer(self._hashes, np.int64)
        sizes = np.frombuffer(self._sizes, np.uint32)
        # Part by part, because sorting takes several times the room of what is sorted.
        parts = hashes.view(np.uint8)[::8] % _PARTS
        count = size = 0
        for part in range(_PARTS):
            chosen = parts == part
            different, places = np.unique(hashes[chosen], return_index=True)
            count += len(different)
            size += int(sizes[chosen][places].sum(dtype=np.int64))
        return count, size


@dataclass
class _Survey:
    """Gather what is known of all rows."""

    stored: _Texts = field(default_factory=_Texts)
    missing: _Texts = field(default_factory=_Texts)
    samples: Samples = field(default_factory=Samples)
    to_measure: list[str] = field(default_factory=list[str])
    refused: int = 0
    first_refused: Refused | None = None
    dimensions: int | None = None


def plan(
    rows: Iterable[Row],
    cache: EmbeddingCache,
    model: Model,
    brake: Brake,
    *,
    batch_size: int,
    tick: Callable[[int], object],
) -> Plan:
    """Read every row once and look its text up, without asking for any.

    `tick` hears how many rows more have been read. A local model is timed on a few passages.
    Raises InputError if there is no passage, and what reading raises.
    """
    survey = _survey(rows, cache, brake, tick)
    passages = len(survey.stored) + len(survey.missing)
    if not passages:
        first = survey.first_refused
        raise InputError(
            "there is no passage to embed"
            + (f"; {first.file}, row {first.row}: {first.reason}" if first else ", all is empty")
        )
    cached, _ = survey.stored.unique()
    to_ask, size = survey.missing.unique()
    tokens_per_byte = survey.samples.tokens_per_byte(model.embedder.model)
    tokens = round(size * tokens_per_byte)
    requests = math.ceil(to_ask / batch_size)
    return Plan(
        passages=passages,
        refused=survey.refused,
        unique=to_ask + cached,
        cached=cached,
        tokens=tokens,
        tokens_per_byte=tokens_per_byte,
        price=None if model.price is None else tokens * model.price,
        requests=requests,
        minutes=_minutes(model, survey.to_measure, to_ask, requests, tokens),
        dimensions=survey.dimensions,
    )


def _survey(
    rows: Iterable[Row],
    cache: EmbeddingCache,
    brake: Brake,
    tick: Callable[[int], object],
) -> _Survey:
    survey = _Survey()

    def look_up(window: list[Row]) -> tuple[list[Row], NDArray[np.bool_], int]:
        texts = [row.text for row in window if isinstance(row, Passage)]
        found, vectors = cache.find(texts)
        return window, found, vectors.shape[1] if len(vectors) else 0

    for window, found, length in in_order(look_up, rows, size=_WINDOW, at_once=2):
        brake.check()
        survey.dimensions = survey.dimensions or length or None
        _take(window, found.tolist(), survey)
        tick(len(window))
    return survey


def _take(window: Sequence[Row], found: Sequence[bool], survey: _Survey) -> None:
    stored: Iterator[bool] = iter(found)
    for row in window:
        if isinstance(row, Refused):
            survey.refused += 1
            survey.first_refused = survey.first_refused or row
            continue
        text = row.text
        survey.samples.offer(text)
        if next(stored):
            survey.stored.add(text)
        else:
            survey.missing.add(text)
            if len(survey.to_measure) < _MEASURED:
                survey.to_measure.append(text)


def _minutes(
    model: Model, samples: Sequence[str], to_ask: int, requests: int, tokens: int
) -> float | None:
    """Tell how long asking takes: what the provider allows, or what was measured here."""
    if not to_ask:
        return 0.0
    given = [
        amount / rate
        for amount, rate in ((requests, model.rate.requests), (tokens, model.rate.tokens))
        if rate is not None
    ]
    if given:
        return max(given)
    if not model.is_local:
        return None
    halves = [list(samples[::2]), list(samples[1::2])]
    seconds = 0.0
    for half in filter(None, halves):
        # The first call also loads what the model loads late; only the last one counts.
        start = time.perf_counter()
        model.embedder(half)
        seconds = (time.perf_counter() - start) / len(half)
    return to_ask * seconds / 60
