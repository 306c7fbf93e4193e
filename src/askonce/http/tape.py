"""A tape: what a response is recorded on as it passes, and what becomes of the recording."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from askonce.core.entry import NEVER
from askonce.core.flow import Flow
from askonce.http import passing
from askonce.http.answer import Answer, Form
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Exchange
from askonce.http.flows import Lead, Spent
from askonce.http.recording import TOO_LONG, Recording

Decode = Callable[[Any, list[bytes]], Iterable[bytes]]
"""Undo the content encoding that a response's headers name."""


class Tape:
    """Record a response as it passes, and end it once: kept or let go.

    `began` is when it was asked for (of `time.monotonic`), `epochs` those of its tags then.
    Chunks are looked at when the caller has had them and asks for the next. Those in a content
    encoding are looked at in the end.
    """

    def __init__(
        self,
        cache: HTTPCache,
        exchange: Exchange,
        lead: Lead,
        response: Any,
        *,
        began: float,
        epochs: Mapping[str, str],
        decode: Decode,
    ) -> None:
        self.cache = cache
        self._exchange = exchange
        self._lead = lead
        self._headers = response.headers
        self._epochs = epochs
        self._decode = decode
        form: Form = "events" if passing.is_events(response.headers) else "body"
        self._recording = Recording(exchange.wire, form, keep=exchange.policy.keep)
        self._is_encoded = passing.is_encoded(response.headers)
        self._began = began
        self._unseen: list[bytes] = []
        self._length = 0
        self._passed = 0
        self._open = True
        self._hold()

    def take(self, chunk: bytes) -> bytes:
        """Take a chunk that the caller is about to get, and may hold on to."""
        self._length += len(chunk)
        self._unseen.append(chunk)
        if self._length > Recording.MAX_LENGTH:
            self._unseen.clear()
        self._hold()
        return chunk

    def go_on(self) -> None:
        """Look at what the caller has had: it asks for more."""
        if self._lead.flight is not None:
            self._lead.flight.held = 0
        if not self._is_encoded:
            chunks, self._unseen = self._unseen, []
            self._see(chunks)

    def _hold(self) -> None:
        self._passed += 1
        if self._lead.flight is not None:
            self._lead.flight.held = self._passed

    def _see(self, chunks: Iterable[bytes]) -> bool:
        """Feed the recording; tell whether all could be read."""
        if self._length > Recording.MAX_LENGTH:
            self._recording.refuse("too_long", TOO_LONG)
        try:
            for chunk in chunks:
                self._recording.feed(chunk)
        except Exception:  # noqa: BLE001  recording must not break the answer
            return False
        return True

    def end(self, *, whole: bool) -> Flow | None:
        """Give the flow that keeps the answer or lets go of it; None if it was ended before.

        Unless `whole`, more was to come. What there is to look at is looked at by the flow, for
        others may wait for their answers meanwhile.
        """
        if not self._open:
            return None
        self._open = False
        if self._lead.flight is not None:
            self._lead.flight.hand_over()
            self._lead.flight.held = 0
        return self._end(time.monotonic() - self._began, whole=whole)

    def _end(self, seconds: float, *, whole: bool) -> Flow:
        self.go_on()
        if self._is_encoded:
            whole = self._see(self._decode(self._headers, self._unseen)) and whole
        recording = self._recording
        try:
            kept = self._answer(seconds, whole=whole)
        except Exception as error:  # noqa: BLE001  the caller has the answer; keep() is at fault
            recording.refuse("keep_hook", f"the answer could not be kept: {error!r}")
            kept = None
        if kept is None:
            spent = Spent(recording.usage, seconds)
            code, reason = recording.code, recording.reason
            yield from self.cache.letting_go(
                self._lead, code, reason, ended=recording.ended, spent=spent
            )
        else:
            yield from self.cache.saving(self._lead, *kept)

    def _answer(self, seconds: float, *, whole: bool) -> tuple[Answer, bytes] | None:
        """Give the answer and its entry, None if there is nothing to keep."""
        recording, exchange = self._recording, self._exchange
        content = recording.finish(whole=whole)
        if content is None:
            return None
        refused = self.cache.keeps(exchange, recording.reply)
        if refused is not None:
            recording.refuse(*refused)
            return None
        now = self.cache.now()
        ttl = exchange.policy.ttl
        answer = Answer(
            recording.form,
            content,
            now,
            NEVER if ttl is None else now + ttl,
            passing.kept_headers(self._headers),
            self._epochs,
            recording.usage,
            recording.form == "events" and exchange.wants_usage,
            seconds,
        )
        return answer, answer.pack(self._lead.question.binding)
