"""Files of lines: plain text and JSON Lines."""

import codecs
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

from askonce.bulk.passages import LONGEST, TOO_LONG, Row, Rows
from askonce.errors import InputError
from askonce.providers.extras import import_extra

_SKIPPED_AT_ONCE = 1 << 20
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NAMES_SHOWN = 20


def lines_of(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes | None]]:
    """Give each line with its number and its end; None for one that is too long to hold.

    Leaves out a byte order mark. Raises InputError for UTF-16.
    """
    start = file.read(3)
    if start.startswith(_WIDE):
        raise InputError(f"{name} is UTF-16; convert it to UTF-8, for instance with iconv")
    file.seek(3 if start == codecs.BOM_UTF8 else 0)
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) <= LONGEST:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_SKIPPED_AT_ONCE)
        yield number, None


def read_text(file: BinaryIO, rows: Rows) -> Iterator[Row]:
    """Read a passage a line, or a paragraph; blank lines only separate."""
    if rows.reading.id_column is not None:
        raise InputError(
            f"{rows.file} is plain text and has no column {rows.reading.id_column!r}; leave --id "
            "out, or give .jsonl, .csv or .parquet files"
        )
    paragraphs = rows.reading.split == "paragraph"
    lines = lines_of(file, rows.file)
    for number, text in _paragraphs(lines) if paragraphs else lines:
        if text is None:
            yield rows.refuse(number, TOO_LONG)
        elif not text.isspace():
            yield rows.row(number, text.rstrip(b"\r\n"))


def _paragraphs(
    lines: Iterator[tuple[int, bytes | None]],
) -> Iterator[tuple[int, bytes | None]]:
    """Join lines up to a blank one; the number is that of the first."""
    first, held, length = 0, list[bytes](), 0
    for number, line in lines:
        if line is not None and line.isspace():
            if length:
                yield first, _joined(held, length)
            held, length = [], 0
            continue
        if not length:
            first = number
        length += LONGEST + 1 if line is None else len(line)
        if length <= LONGEST:
            held.append(line or b"")
    if length:
        yield first, _joined(held, length)


def _joined(held: list[bytes], length: int) -> bytes | None:
    return b"".join(held) if length <= LONGEST else None


def read_json_lines(file: BinaryIO, rows: Rows) -> Iterator[Row]:
    """Read a JSON object a line.

    A name that no line has is a mistake of the whole file; one that some lack is theirs.
    """
    orjson: Any = import_extra("orjson", "bulk", "reading JSON Lines")
    never_seen = {rows.reading.column, rows.reading.id_column or rows.reading.column}
    first: list[str] | None = None
    for number, line in lines_of(file, rows.file):
        if line is None:
            yield rows.refuse(number, TOO_LONG)
            continue
        if line.isspace():
            continue
        try:
            value: object = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield rows.refuse(number, f"the line is not JSON: {error}")
            continue
        if not isinstance(value, dict):
            yield rows.refuse(number, "the line is JSON, but no object")
            continue
        fields = cast("Mapping[str, object]", value)
        first = list(fields) if first is None else first
        never_seen -= fields.keys()
        yield _row_of(fields, number, rows)
    if first is not None and never_seen:
        raise InputError(no_column(rows, min(never_seen), first))


def _row_of(fields: Mapping[str, object], number: int, rows: Rows) -> Row:
    reading = rows.reading
    for name in (reading.column, reading.id_column):
        if name is not None and name not in fields:
            return rows.refuse(number, f"the object has no {name!r}")
    return rows.row(number, fields[reading.column], fields.get(reading.id_column or ""))


def no_column(rows: Rows, name: str, names: list[str]) -> str:
    """Say that a file has no such column, which it has, and what to do."""
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) or "none"
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    option = "--id" if name == rows.reading.id_column else "--column"
    return f"{rows.file}, row 1: there is no column {name!r}; give {option} one of {shown}{more}"
