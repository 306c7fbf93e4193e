"""A recording: an answer that passes through, kept only if it is whole."""

import time
from typing import Any

from askonce.core.entry import NEVER
from askonce.core.flow import Flow
from askonce.errors import AnswerError, InputError
from askonce.http import passing
from askonce.http.answer import Answer, Form
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Exchange
from askonce.http.flows import Lead
from askonce.wire import Json, Parser, Usage, Wire, parse_body


class Recording:
    """Take an answer as it passes and tell at its end whether it may be kept.

    Feeding costs little and never fails: what cannot be kept gives a reason instead.
    """

    MAX_LENGTH = 64 * 2**20

    def __init__(self, wire: Wire, form: Form, *, keep: frozenset[str]) -> None:
        self.form: Form = form
        self.reason: str | None = None
        self.usage: Usage | None = None
        self._wire = wire
        self._keep = keep
        self._parts: list[bytes] = []
        self._length = 0
        self._parser = Parser()
        self._joiner = wire.joiner() if form == "events" else None
        self._reply: Json | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        if self.reason is not None:
            return
        self._length += len(chunk)
        if self._length > self.MAX_LENGTH:
            self.reason = f"the answer is longer than {self.MAX_LENGTH // 2**20} MiB"
            self._parts.clear()
            return
        self._parts.append(chunk)
        if self._joiner is not None:
            for event in self._parser.feed(chunk):
                self._joiner.feed(event)

    @property
    def is_whole(self) -> bool:
        """Tell whether a stream has had its end mark, so that nothing more need come."""
        return self._joiner is not None and self._joiner.complete

    def finish(self) -> bytes | None:
        """Give the whole content if it may be kept; else `reason` tells why not."""
        if self.reason is not None:
            return None
        content = b"".join(self._parts)
        try:
            if self._joiner is None:
                reply = parse_body(content)
            else:
                for event in self._parser.finish():
                    self._joiner.feed(event)
                reply = self._joiner.response()
        except (InputError, AnswerError) as error:
            self.reason = str(error)
            return None
        shortfall = self._wire.shortfall(reply)
        if shortfall is not None and shortfall not in self._keep:
            self.reason = f"the answer is not kept: {shortfall}"
            return None
        self.usage = self._wire.usage(reply)
        self._reply = reply
        return content

    @property
    def reply(self) -> Json:
        """Give the finished answer that may be kept."""
        if self._reply is None:
            raise AnswerError(self.reason or "the answer is not finished")
        return self._reply


class Tape:
    """Record a response as it passes, and end it once: kept or let go."""

    def __init__(self, cache: HTTPCache, exchange: Exchange, lead: Lead, response: Any) -> None:
        self.cache = cache
        self.exchange = exchange
        self.lead = lead
        self.headers = passing.kept_headers(response.headers)
        form: Form = "events" if passing.is_events(response.headers) else "body"
        self.recording = Recording(exchange.wire, form, keep=exchange.policy.keep)
        self._decode = passing.decoder_of(response.headers.get("content-encoding", ""))
        if self._decode is None:
            self.recording.reason = "the answer came in an encoding that cannot be read here"
        self._began = time.monotonic()
        self._pending = b""
        self._open = True

    def pass_on(self, chunk: bytes) -> bytes:
        """Take a chunk that the caller is about to get; it is looked at after that."""
        self.catch_up()
        self._pending = chunk
        return chunk

    def catch_up(self) -> None:
        """Look at what the caller has."""
        chunk, self._pending = self._pending, b""
        if chunk and self._decode is not None:
            try:
                self.recording.feed(self._decode(chunk))
            except Exception as error:  # noqa: BLE001  recording must not break the answer
                self.recording.reason = f"the answer could not be read: {error}"

    def end(self, *, whole: bool) -> Flow | None:
        """Give the flow that keeps the answer or lets go of it; None if it was ended before."""
        if not self._open:
            return None
        self._open = False
        self.catch_up()
        if not whole and not self.recording.is_whole:
            return self.cache.letting_go(self.lead, "")
        seconds = time.monotonic() - self._began
        try:
            answer = self._answer(seconds)
        except Exception as error:  # noqa: BLE001  the caller has the answer; keep() is at fault
            return self.cache.letting_go(self.lead, f"keep() failed: {error!r}")
        if answer is None:
            return self.cache.letting_go(self.lead, self.recording.reason or "not kept")
        return self.cache.saving(self.lead, answer, self.exchange.policy.tags)

    def _answer(self, seconds: float) -> Answer | None:
        recording, exchange = self.recording, self.exchange
        content = recording.finish()
        if content is None:
            return None
        recording.reason = self.cache.keeps(exchange, recording.reply)
        if recording.reason is not None:
            return None
        now = self.cache.now()
        ttl = exchange.policy.ttl
        return Answer(
            recording.form,
            content,
            now,
            NEVER if ttl is None else now + ttl,
            self.headers,
            {},
            recording.usage,
            recording.form == "events" and exchange.wants_usage,
            seconds,
        )
