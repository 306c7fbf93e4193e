"""The embedder that a job's cache asks: it knows failures of single texts, and when to stop."""

import hashlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from askonce.bulk import halving
from askonce.bulk.models import Model
from askonce.bulk.stopping import Brake, JobError
from askonce.core.keys import Identity, utf8
from askonce.core.vectors import Vectors
from askonce.providers.pace import Pace
from askonce.providers.refusals import InputRefusedError

_FAILED_IN_A_ROW = 3
_REMEMBERED = 100_000


class SomeFailedError(Exception):
    """Give the reasons of the texts of a batch that cannot be embedded; the rest waits here."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(f"{len(reasons)} texts failed")
        self.reasons = reasons


class Asker:
    """Ask a model for batches, `at_once` of them at the same time.

    Of a batch that fails in part the vectors that came are held: asked again for those texts
    only, the asker answers from memory, and so the cache stores them. `dimensions_stored` is how
    long the vectors are that the store has under this model's name, None if it has none.
    """

    def __init__(
        self,
        model: Model,
        brake: Brake,
        *,
        at_once: int,
        tokens_per_byte: float,
        dimensions_stored: int | None = None,
    ) -> None:
        self.asked = 0
        self.bytes_asked = 0
        self._embedder = model.embedder
        self._brake = brake
        self._turn = threading.BoundedSemaphore(at_once)
        self._pace = Pace(model.rate.tokens)
        self._tokens_per_byte = tokens_per_byte
        self._length = model.embedder.dimensions or dimensions_stored
        self._held: dict[str, Vectors] = {}
        self._refused: dict[bytes, str] = {}
        self._failed_in_a_row = 0
        self._answered = False
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """Name the model."""
        return self._embedder.model

    @property
    def dimensions(self) -> int | None:
        """Tell what dimensions were asked for."""
        return self._embedder.dimensions

    @property
    def parameters(self) -> Identity:
        """Tell whatever else decides the vectors."""
        return self._embedder.parameters

    @property
    def length(self) -> int | None:
        """Tell how long the vectors are, once that is known."""
        return self._length

    def __call__(self, texts: list[str]) -> Vectors:
        """Embed a batch. Raises SomeFailedError, or what the brake was pulled for."""
        held = {text: row for text in texts if (row := self._held.pop(text, None)) is not None}
        reasons = {text: reason for text in texts if (reason := self._remembered(text))}
        open_ones = [text for text in texts if text not in held and text not in reasons]
        if open_ones:
            with self._turn:
                self._brake.check()
                size = sum(len(utf8(text)) for text in open_ones)
                self._wait_for_tokens(size)
                outcomes = self._ask(open_ones)
            with self._lock:
                self.asked += len(open_ones)
                self.bytes_asked += size
            self._judge(outcomes)
            for text, outcome in zip(open_ones, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    reasons[text] = self._reason(text, outcome)
                else:
                    held[text] = outcome
        if reasons:
            self._held.update(held)
            raise SomeFailedError(reasons)
        return np.stack([held[text] for text in texts])

    def _ask(self, texts: list[str]) -> list[Vectors | Exception]:
        each: Any = getattr(self._embedder, "embed_each", None)
        outcomes: list[Vectors | Exception] = (
            each(texts) if each is not None else halving.embed_each(self._embedder, texts)
        )
        return outcomes

    def _wait_for_tokens(self, size: int) -> None:
        tokens = round(size * self._tokens_per_byte)
        self._brake.pulled.wait(self._pace.reserve(tokens, now=time.monotonic()))
        self._brake.check()

    def _judge(self, outcomes: Sequence[Vectors | Exception]) -> None:
        """Pull the brake for what all texts share."""
        errors = [one for one in outcomes if isinstance(one, Exception)]
        shared = [one for one in errors if not isinstance(one, InputRefusedError)]
        rows = [one for one in outcomes if not isinstance(one, Exception)]
        with self._lock:
            self._failed_in_a_row = 0 if rows or not shared else self._failed_in_a_row + 1
            self._answered |= bool(rows)
            in_doubt = self._failed_in_a_row >= _FAILED_IN_A_ROW or not self._answered
        if shared and (halving.is_hopeless(shared[0]) or (in_doubt and not self._recovers())):
            self._brake.pull(JobError(f"the model {self.model!r} fails: {_words(shared[0])}"))
        for length in {len(row) for row in rows}:
            self.check_length(length)

    def _recovers(self) -> bool:
        """Find out whether the model answers something else than what just failed."""
        if not halving.answers(self._embedder):
            return False
        with self._lock:
            self._failed_in_a_row = 0
            self._answered = True
        return True

    def check_length(self, length: int) -> None:
        """Check that all vectors of the job are of one length. Raises JobError."""
        with self._lock:
            expected = self._length = self._length or length
        if length != expected:
            asked = self.dimensions is not None
            error = JobError(
                f"the model {self.model!r} gives vectors of {length} dimensions, "
                f"but {expected} {'were asked for' if asked else 'are stored under its name'}; "
                + (
                    f"leave --dimensions out or give {length}"
                    if asked
                    else "if another model has that name now, give it a --namespace of its own"
                )
            )
            self._brake.pull(error)
            raise error

    def _remembered(self, text: str) -> str | None:
        return self._refused.get(_digest(text)) if self._refused else None

    def _reason(self, text: str, error: Exception) -> str:
        if not isinstance(error, InputRefusedError):
            return _words(error)
        if len(self._refused) < _REMEMBERED:
            self._refused[_digest(text)] = error.reason
        return error.reason


def _digest(text: str) -> bytes:
    return hashlib.sha256(utf8(text)).digest()


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
