"""The rows of a corpus: passages to embed, and rows that cannot be."""

from dataclasses import dataclass
from typing import Literal

LONGEST = 32 * 1024 * 1024
"""Bytes of a line and of a text. No model takes in a tenth of it; a longer one is a mistake."""

TOO_LONG = (
    f"the line is longer than {LONGEST // 1024**2} MiB; split it into passages, "
    "and write JSON as one object a line"
)
NOT_UTF8 = "it is not UTF-8; convert the file, for instance with iconv"

Split = Literal["line", "paragraph"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Say where in a file the text and the name of a passage are.

    No `id_column` names passages by file and row; `split` is for files of plain text.
    """

    column: str = "text"
    id_column: str | None = None
    split: Split = "line"


@dataclass(slots=True)
class Passage:
    """Be a text with its name, and where it came from. Rows count from 1."""

    id: str
    file: str
    row: int
    text: str


@dataclass(slots=True)
class Refused:
    """Be a row that has no vector, and the reason."""

    id: str
    file: str
    row: int
    reason: str


Row = Passage | Refused


_KINDS = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
}


class Rows:
    """Make the rows of one file, named after it."""

    def __init__(self, file: str, reading: Reading) -> None:
        self.file = file
        self.reading = reading

    def row(self, number: int, text: object, own_id: object = None) -> Row:
        """Check what was read as a text, a string or UTF-8, and as a name."""
        name = f"{self.file}:{number}"
        if self.reading.id_column is not None:
            if isinstance(own_id, str) and own_id:
                name = own_id
            elif isinstance(own_id, int) and not isinstance(own_id, bool):
                name = str(own_id)
            else:
                return self.refuse(number, f"{self.reading.id_column!r} is {_kind(own_id)}, no id")
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError:
                return Refused(name, self.file, number, NOT_UTF8)
        if not isinstance(text, str):
            reason = f"{self.reading.column!r} is {_kind(text)}, not a text"
            return Refused(name, self.file, number, reason)
        if not text or text.isspace():
            return Refused(name, self.file, number, "the text is empty")
        return Passage(name, self.file, number, text)

    def refuse(self, number: int, reason: str) -> Refused:
        """Refuse a row that has no name of its own."""
        return Refused(f"{self.file}:{number}", self.file, number, reason)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if value == "":
        return "empty"
    return _KINDS.get(type(value).__name__, f"of type {type(value).__name__}")
