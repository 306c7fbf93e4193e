"""Values in Postgres's binary form, as parameters have it and results bring it."""

import struct
from collections.abc import Sequence

from askonce.stores.postgres_link import Result

_TEXT = 25
_BYTEA = 17
_ARRAY = struct.Struct(">iiiii")
_LENGTH = struct.Struct(">i")
_FLOAT = struct.Struct(">d")


def text_array(texts: Sequence[str]) -> bytes:
    """Write `text[]`. Raises UnicodeEncodeError."""
    return _array(_TEXT, [text.encode() for text in texts])


def bytea_array(values: Sequence[bytes]) -> bytes:
    """Write `bytea[]`."""
    return _array(_BYTEA, values)


def _array(kind: int, values: Sequence[bytes]) -> bytes:
    parts = [_ARRAY.pack(1, 0, kind, len(values), 1)]
    for value in values:
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def float8(number: float) -> bytes:
    """Write `float8`."""
    return _FLOAT.pack(number)


def texts_of(result: Result, column: int = 0) -> list[str]:
    """Read a column of texts; a NULL is an empty one."""
    return [(result.get_value(row, column) or b"").decode() for row in range(result.ntuples)]


def integer_of(result: Result) -> int:
    """Read the integer in the first column of the first row."""
    return int.from_bytes(result.get_value(0, 0) or b"", "big", signed=True)
