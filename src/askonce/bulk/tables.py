"""Files of tables: CSV and Parquet."""

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

from askonce.bulk.lines import lines_of, no_column
from askonce.bulk.passages import LONGEST, NOT_UTF8, TOO_LONG, Row, Rows
from askonce.errors import InputError
from askonce.providers.extras import import_extra

_BATCH = 1024
_BUFFER = 1 << 20


def read_csv(file: BinaryIO, rows: Rows) -> Iterator[Row]:
    """Read records after a line of column names; blank lines are left out."""
    # The limit is one of the whole process; its default is less than a long document.
    csv.field_size_limit(LONGEST)
    records = csv.reader(_csv_lines(file, rows), strict=True)
    numbered = _records(records, rows)
    _, header = next(numbered, (0, []))
    places = [
        _place(rows, header, name)
        for name in (rows.reading.column, rows.reading.id_column)
        if name is not None
    ]
    for number, record in numbered:
        if len(record) <= max(places):
            yield rows.refuse(number, f"the row has {len(record)} of {len(header)} fields")
            continue
        texts = [record[place] for place in places]
        if all(map(_is_utf8, texts)):
            yield rows.row(number, *texts)
        else:
            yield rows.refuse(number, NOT_UTF8)


def _csv_lines(file: BinaryIO, rows: Rows) -> Iterator[str]:
    for number, line in lines_of(file, rows.file):
        if line is None:
            raise InputError(f"{rows.file}, line {number}: {TOO_LONG}")
        # What is not UTF-8 is told of each field by itself.
        yield line.decode(errors="surrogateescape")


def _records(records: Any, rows: Rows) -> Iterator[tuple[int, list[str]]]:
    """Give the records with their numbers; the column names are number 0."""
    number = 0
    while True:
        try:
            record: list[str] | None = next(records, None)
        except csv.Error as error:
            raise InputError(
                f"{rows.file}, row {number}, up to line {records.line_num}: {error}; "
                "look for a quote there that is not closed or not doubled"
            ) from None
        if record is None:
            return
        if record:
            yield number, record
            number += 1


def _place(rows: Rows, header: list[str], name: str) -> int:
    try:
        return header.index(name)
    except ValueError:
        raise InputError(no_column(rows, name, header)) from None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_parquet(file: BinaryIO, rows: Rows) -> Iterator[Row]:
    """Read two columns at most, a page of them at a time."""
    arrow: Any = import_extra("pyarrow", "bulk", "reading Parquet")
    parquet: Any = import_extra("pyarrow.parquet", "bulk", "reading Parquet")
    column, id_column = rows.reading.column, rows.reading.id_column
    number = 0
    try:
        table = parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
        schema = table.schema_arrow
        for name in filter(None, (column, id_column)):
            if name not in schema.names:
                raise InputError(no_column(rows, name, schema.names))
        _check_texts(arrow, schema.field(column).type, rows)
        wanted = list(dict.fromkeys(filter(None, (column, id_column))))
        for batch in table.iter_batches(batch_size=_BATCH, columns=wanted, use_threads=False):
            texts = _values(arrow, batch.column(column))
            ids = _values(arrow, batch.column(id_column)) if id_column else [None] * len(texts)
            for text, own_id in zip(texts, ids, strict=True):
                number += 1
                yield rows.row(number, text, own_id)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(
            f"{rows.file}, after row {number}: not a whole Parquet file ({error}); "
            "was it cut off? Copy or write it again"
        ) from None


def _check_texts(arrow: Any, kind: Any, rows: Rows) -> None:
    types = arrow.types
    inner = kind.value_type if types.is_dictionary(kind) else kind
    if not any(
        is_one(inner)
        for is_one in (
            types.is_string,
            types.is_large_string,
            types.is_string_view,
            types.is_binary,
            types.is_large_binary,
            types.is_null,
        )
    ):
        raise InputError(
            f"{rows.file}, row 1: the column {rows.reading.column!r} is of type {kind}, not text; "
            "give --column a column of texts"
        )


def _values(arrow: Any, column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        if arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        values = column.cast(arrow.large_binary()).to_pylist()
    return values
