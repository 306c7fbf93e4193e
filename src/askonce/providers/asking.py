"""One call to a provider: its batches, what became of each text, and the flow of one batch."""

import asyncio
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from askonce.core.vectors import Vectors
from askonce.errors import InputTypeError
from askonce.providers.answers import Rows
from askonce.providers.refusals import (
    InputRefusedError,
    InputTooLongError,
    Refusal,
    read_refusal,
    words_of,
)

Format = Literal["base64", "float", "unsaid"]

FORMATS: tuple[Format, ...] = ("base64", "float", "unsaid")
"""How numbers may be asked for: the next where a server refuses one."""

_ENOUGH_REFUSED = 3
_UNAUTHORISED = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Request:
    """Hold the indices of the texts of one request, and how their numbers are asked for."""

    part: list[int]
    format: Format


class Dialect:
    """Remember what a server was found to understand."""

    def __init__(self) -> None:
        self.format: Format = FORMATS[0]
        self.most_inputs: int | None = None

    def step_down(self, refused: Format) -> bool:
        """Go on to the next format; tell whether there was one."""
        place = FORMATS.index(refused) + 1
        if place == len(FORMATS):
            return False
        if self.format == refused:
            self.format = FORMATS[place]
        return True


class Asking:
    """Gather what becomes of each text of one call.

    `bell` rings when nothing more is to be asked: after an error that all texts share, or after
    any error where the call is `all_or_nothing`.
    """

    def __init__(
        self,
        texts: Sequence[str],
        sizes: Sequence[int],
        *,
        all_or_nothing: bool,
        bell: threading.Event | asyncio.Event,
    ) -> None:
        self.texts = texts
        self.sizes = sizes
        self.bell = bell
        self.halted: BaseException | None = None
        self.outcomes: dict[int, Vectors | Exception] = {}
        self._all_or_nothing = all_or_nothing

    def keep(self, part: Sequence[int], rows: Rows) -> None:
        """Keep the vectors of these texts."""
        self.outcomes.update(zip(part, rows, strict=True))

    def fail(self, part: Sequence[int], error: Exception) -> None:
        """Keep what stands in the way of these texts."""
        for index in part:
            self.outcomes[index] = error
        status = getattr(error, "status_code", None)
        if self._all_or_nothing or status in _UNAUTHORISED:
            self.halt(error)

    def halt(self, error: BaseException) -> None:
        """Ask for nothing more, because of this."""
        if self.halted is None:
            self.halted = error
            self.bell.set()

    def results(self) -> list[Vectors | Exception]:
        """Give each text's vector or what stands in its way, in the order of the texts."""
        halted = self.halted if isinstance(self.halted, Exception) else None
        return [
            self.outcomes[index] if halted is None else self.outcomes.get(index, halted)
            for index in range(len(self.texts))
        ]


def ask_flow(
    batch: list[int], asking: Asking, dialect: Dialect
) -> Generator[Request, Rows | Exception, None]:
    """Ask for a batch, and go on with smaller parts of it where the provider refuses it.

    Yields requests and is sent the rows or the error. A text that is refused when it is asked
    for alone is the one that is meant.
    """
    parts = [batch]
    refused: list[int] = []
    answered = False
    while parts and asking.halted is None:
        request = Request(parts.pop(), dialect.format)
        part = request.part
        answer = yield request
        if not isinstance(answer, Exception):
            asking.keep(part, answer)
            answered = True
            continue
        refusal = read_refusal(answer)
        if refusal is None:
            asking.fail(part, answer)
        elif refusal.kind == "format":
            if dialect.step_down(request.format):
                parts.append(part)
            else:
                asking.fail(part, answer)
        elif len(part) > 1:
            if refusal.kind == "many":
                dialect.most_inputs = min(dialect.most_inputs or len(part), len(part) // 2)
            parts += _smaller(part, refusal, asking)
        else:
            asking.fail(part, _refused(part[0], answer, refusal))
            refused += part if refusal.kind == "input" else []
            if len(refused) == _ENOUGH_REFUSED and not answered:
                # Whatever is sent is refused: it is not about the texts.
                rest = refused + [index for part in parts for index in part]
                asking.fail(rest, answer)
                return


def _smaller(part: list[int], refusal: Refusal, asking: Asking) -> list[list[int]]:
    """Split a part: the text that is named alone, else the longer half last."""
    if refusal.place is not None and refusal.place < len(part):
        rest = part[: refusal.place] + part[refusal.place + 1 :]
        return [[part[refusal.place]], rest]
    by_size = sorted(part, key=lambda index: asking.sizes[index])
    middle = len(part) // 2
    return [sorted(by_size[middle:]), sorted(by_size[:middle])]


def _refused(index: int, error: Exception, refusal: Refusal) -> InputRefusedError:
    kind = InputTooLongError if refusal.kind in {"long", "many"} else InputRefusedError
    refused = kind(index, words_of(error))
    refused.__cause__ = error
    return refused


def check_texts(texts: Sequence[str]) -> tuple[list[str], dict[int, InputRefusedError]]:
    """Check that texts are strings, and find those that UTF-8 cannot write.

    Raises InputTypeError.
    """
    if isinstance(texts, str | bytes):
        raise InputTypeError("texts is one string; give a list of strings, like [text]")
    texts = list(texts)
    unsendable: dict[int, InputRefusedError] = {}
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(
                f"texts[{index}] is a {type(text).__qualname__}; only strings can be embedded"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            unsendable[index] = InputRefusedError(index, f"it is not valid Unicode ({error})")
    return texts, unsendable


def sendable(texts: Sequence[str]) -> list[str]:
    """Check texts for a tokenizer. Raises InputTypeError or InputRefusedError."""
    texts, unsendable = check_texts(texts)
    for error in unsendable.values():
        raise error
    return texts
