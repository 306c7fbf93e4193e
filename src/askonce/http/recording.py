"""A recording: an answer that passes through, kept only if it is whole."""

from collections.abc import Collection
from typing import Final

from askonce.errors import AnswerError, InputError
from askonce.events import Code
from askonce.http.answer import Form
from askonce.wire import SHORTFALLS, Json, Parser, Usage, Wire, parse_body

TOO_LONG: Final = "the answer is longer than what is kept"


class Recording:
    """Take an answer as it passes and tell at its end whether it may be kept.

    Feeding costs little and never fails: what cannot be kept gives a reason instead. `ended`
    tells that the answer came to its end, for better or worse.
    """

    MAX_LENGTH = 64 * 2**20
    """Bytes."""

    def __init__(self, wire: Wire, form: Form, *, keep: Collection[str]) -> None:
        self.form: Form = form
        self.code: Code = ""
        self.reason = ""
        self.ended = False
        self.usage: Usage | None = None
        self.reply: Json = {}
        self._wire = wire
        self._keep = keep
        self._parts: list[bytes] = []
        self._length = 0
        self._parser = Parser()
        self._joiner = wire.joiner() if form == "events" else None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        if self.reason:
            return
        self._length += len(chunk)
        if self._length > self.MAX_LENGTH:
            self.refuse("too_long", TOO_LONG)
            return
        self._parts.append(chunk)
        if self._joiner is not None:
            for event in self._parser.feed(chunk):
                self._joiner.feed(event)

    def refuse(self, code: Code, reason: str) -> None:
        """Keep nothing of this answer, for this reason."""
        self.code, self.reason = code, reason
        self._parts.clear()

    def finish(self, *, whole: bool) -> bytes | None:
        """Give the whole content if it may be kept; else `reason` tells why not.

        Unless `whole`, more was to come; a stream that has had its end mark needs no more.
        """
        marked = self._joiner is not None and self._joiner.complete
        failed = self._joiner is not None and self._joiner.failed is not None
        self.ended = bool(self.reason) or marked or failed or (whole and self._joiner is None)
        if self.reason:
            return None
        if not whole and not self.ended:
            self.refuse("not_whole", "the answer did not come to its end")
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
            self.refuse("malformed", str(error))
            return None
        self.ended = True
        self.usage = self._wire.usage(reply)
        shortfall = self._wire.shortfall(reply)
        if shortfall is not None and shortfall not in self._keep:
            self.refuse(shortfall, f"{shortfall}: {SHORTFALLS[shortfall]}")
            return None
        self.reply = reply
        return content
