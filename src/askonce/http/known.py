"""A request that is asked again: what of its answer need not be worked out anew."""

import time
from typing import Final

from askonce.core.entry import NEVER
from askonce.events import Event
from askonce.http import flows, passing
from askonce.http.answer import Answer
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Exchange
from askonce.http.flows import Found

_TRUSTED_FOR: Final = 1.0
"""Seconds: a writer that is stopped while it commits may show that later than it stamped it."""

Pairs = list[tuple[bytes, bytes]]

_LONGEST: Final = 32 << 10
"""What is longer is not held in memory; the flow's own cost is small beside that of sending it."""


class Known:
    """Answer one request, understood before, with what the store holds of it at this moment.

    Only what is plain is answered; for all else, and wherever in doubt, the flow finds out.
    """

    __slots__ = (
        "_age",
        "_answer",
        "_blob",
        "_chunks",
        "_exchange",
        "_fixed",
        "_headers",
        "_seen",
        "_stamp",
        "_store",
    )

    def __init__(self, cache: HTTPCache, exchange: Exchange) -> None:
        self._store = cache.store
        self._exchange = exchange
        self._blob: bytes | None = None
        self._answer: Answer | None = None
        # The store's stamp before it was last read, and when that was.
        self._stamp: object = None
        self._seen = 0.0
        self._fixed: Pairs = []
        # The headers at an age in seconds.
        self._age = -1
        self._headers: Pairs = []
        self._chunks: list[bytes] = []

    def hit(self) -> Event | None:
        """Tell of a hit as the flow does; None if there has been none."""
        answer = self._answer
        return None if answer is None else flows.event_of("hit", self._exchange.question, answer)

    def reply(self) -> tuple[Pairs, list[bytes]] | None:
        """Give headers and chunks of a kept answer that is good, None for all else."""
        now = time.time()
        try:
            stamp = self._store.stamp()
        except Exception:  # noqa: BLE001  the flow will tell of it
            return None
        is_seen = (
            stamp is not None and stamp == self._stamp and 0 <= now - self._seen < _TRUSTED_FOR
        )
        if not is_seen and not self._look(stamp, now):
            return None
        answer = self._answer
        if answer is None or now >= answer.expires:
            return None
        max_age = self._exchange.policy.max_age
        if max_age is not None and now - answer.created > max_age:
            return None
        age = max(0, int(now - answer.created))
        if age != self._age or answer.expires != NEVER:
            self._age, self._headers = age, [*self._fixed, (b"age", b"%d" % age)]
            if answer.expires != NEVER:
                status = passing.hit_status(answer, now=now).encode("ascii")
                self._headers.append((b"cache-status", status))
        return [*self._headers], self._chunks

    def _look(self, stamp: object, now: float) -> bool:
        """Tell whether the store holds the answer, the same as before or another."""
        try:
            values = self._store.read_at_once(self._exchange.question.key)
        except Exception:  # noqa: BLE001  the flow will tell of it
            return False
        blob = values[0] if values else None
        if blob is None or (blob != self._blob and not self._open(blob)):
            self._stamp = None
            return False
        self._stamp, self._seen = stamp, now
        return True

    def _open(self, blob: bytes) -> bool:
        """Read another entry than the last; tags may have retired it, which takes a flow."""
        if len(blob) > _LONGEST:
            return False
        answer = Answer.unpack(blob, self._exchange.question.binding)
        if answer is None or answer.tags:
            return False
        try:
            headers, chunks = passing.reply_of(
                self._exchange, Found(answer, blob), now=answer.created
            )
        except Exception:  # noqa: BLE001  whatever an entry holds, it must not break the call
            return False
        if not chunks:
            return False
        self._fixed = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in headers
            if name != "age" and (name != "cache-status" or answer.expires == NEVER)
        ]
        self._blob, self._answer, self._chunks = blob, answer, chunks
        self._age = -1
        return True


def known(cache: HTTPCache, exchange: object) -> Known | None:
    """Make a request known, unless its policy wants more than a look into the store."""
    if not isinstance(exchange, Exchange) or exchange.policy.no_cache:
        return None
    return Known(cache, exchange)
