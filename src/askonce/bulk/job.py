"""The job itself: rows through the cache into files, many batches under way at once."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from askonce.bulk.asking import Asker, SomeFailedError
from askonce.bulk.models import Model
from askonce.bulk.output import Format, Output, Writer
from askonce.bulk.passages import Passage, Refused, Row
from askonce.bulk.plan import Plan
from askonce.bulk.stopping import Brake, JobError
from askonce.bulk.writers import open_writer
from askonce.core.keys import utf8
from askonce.core.store import Store
from askonce.core.vectors import Vectors
from askonce.events import Event, Observer, log
from askonce.lookahead import in_order
from askonce.providers import cache

_AHEAD = 2
"""So many times the batches under way are read ahead: a slow one does not hold up the others."""


@dataclass
class Outcome:
    """Count what became of the rows so far; money is dollars, None if the price is unknown.

    `asked` are texts, failing ones too. Spent is by the provider's count of tokens where it gives
    one, else estimated, as what was saved always is.
    """

    embedded: int = 0
    failed: int = 0
    asked: int = 0
    spent: float | None = None
    saved: float | None = None

    @property
    def rows(self) -> int:
        """Count the rows that are done with."""
        return self.embedded + self.failed


@dataclass(frozen=True, slots=True)
class _Window:
    ids: list[str]
    hashes: list[str]
    vectors: Vectors
    refused: list[Refused]
    size: int


class Job:
    """Embed rows with a model through a store, which stays the caller's to close.

    A batch of `batch_size` texts is stored before its vectors are written; `at_once` batches are
    asked for at the same time.
    """

    def __init__(
        self,
        model: Model,
        store: Store,
        plan: Plan,
        brake: Brake,
        *,
        namespace: str,
        batch_size: int,
        at_once: int,
    ) -> None:
        self._model = model
        self._plan = plan
        self._brake = brake
        self._namespace = namespace
        self._batch_size = batch_size
        self._at_once = at_once
        self._asker = Asker(
            model,
            brake,
            at_once=at_once,
            tokens_per_byte=plan.tokens_per_byte,
            dimensions_stored=plan.dimensions,
        )
        self._cache = cache(
            self._asker, store, namespace, batch_size=batch_size, observe=observer(brake)
        )
        self._size = 0
        self._first_refused: Refused | None = None
        self._outcome = Outcome()

    @property
    def outcome(self) -> Outcome:
        """Tell what became of the rows so far."""
        self._count_money()
        self._outcome.asked = self._asker.asked
        return self._outcome

    def run(
        self,
        rows: Iterable[Row],
        output: Output,
        kind: Format,
        tell: Callable[[Outcome], object],
    ) -> Outcome:
        """Embed everything and complete the output; `tell` hears of each batch.

        Raises JobError if the job cannot go on, Stopped if it was asked to stop.
        """
        writer: Writer | None = None
        windows = in_order(self._embed, rows, size=self._batch_size, at_once=_AHEAD * self._at_once)
        try:
            with contextlib.closing(windows):  # type: ignore[type-var]
                for window in windows:
                    self._brake.check()
                    writer = self._write(window, writer, output, kind)
                    tell(self.outcome)
            output.complete(self._opened(writer).close(), self._meta())
        except BaseException as error:
            if writer is not None:
                with contextlib.suppress(Exception):
                    writer.abandon()
            if isinstance(error, OSError):
                raise JobError(
                    f"cannot write {output.folder}: {error.strerror or error}; make room there "
                    "or give another --out"
                ) from error
            raise
        return self.outcome

    def _embed(self, window: Sequence[Row]) -> _Window:
        reasons: dict[str, str] = {}
        texts = [row.text for row in window if isinstance(row, Passage)]
        while True:
            try:
                vectors = self._cache.embed([text for text in texts if text not in reasons])
                break
            except SomeFailedError as failed:
                reasons |= failed.reasons
        ids: list[str] = []
        hashes: list[str] = []
        refused: list[Refused] = []
        size = 0
        for row in window:
            if isinstance(row, Refused):
                refused.append(row)
            elif (reason := reasons.get(row.text)) is not None:
                refused.append(Refused(row.id, row.file, row.row, reason))
            else:
                content = utf8(row.text)
                ids.append(row.id)
                hashes.append(hashlib.sha256(content).hexdigest())
                size += len(content)
        return _Window(ids, hashes, vectors, refused, size)

    def _write(
        self, window: _Window, writer: Writer | None, output: Output, kind: Format
    ) -> Writer | None:
        for row in window.refused:
            self._first_refused = self._first_refused or row
            output.refuse(row)
        if window.ids:
            length = window.vectors.shape[1]
            self._asker.check_length(length)
            writer = writer or open_writer(kind, output, length)
            writer.write(window.ids, window.hashes, window.vectors)
        self._outcome.embedded += len(window.ids)
        self._outcome.failed += len(window.refused)
        self._size += window.size
        return writer

    def _opened(self, writer: Writer | None) -> Writer:
        if writer is None:
            first = self._first_refused
            reason = f"; {first.file}, row {first.row}: {first.reason}" if first else ""
            raise JobError(f"no passage could be embedded{reason}")
        return writer

    def _count_money(self) -> None:
        price = self._model.price
        if price is None:
            return
        estimated = self._asker.bytes_asked * self._plan.tokens_per_byte
        counted: int = getattr(self._model.embedder, "tokens_used", 0)
        self._outcome.spent = (counted or estimated) * price
        unasked = max(0, self._size - self._asker.bytes_asked)
        self._outcome.saved = unasked * self._plan.tokens_per_byte * price

    def _meta(self) -> dict[str, Any]:
        return {
            "rows": self._outcome.embedded,
            "failures": self._outcome.failed,
            "dimensions": self._asker.length,
            "type": "float32",
            "model": self._asker.model,
            "parameters": dict(self._asker.parameters),
            "namespace": self._namespace,
        }


def observer(brake: Brake) -> Observer:
    """Stop a job whose store fails: it would pay for what is not kept."""

    def observe(event: Event) -> None:
        if event.kind == "store_failed":
            brake.pull(JobError(f"the store failed: {event.error}; nothing more was asked"))
        else:
            log(event)

    return observe
