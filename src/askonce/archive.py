"""Entries in a file that other programs read: Parquet, as docs/reference/export-format.md says."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from askonce.core import entry, flow
from askonce.core.store import Store
from askonce.errors import InputError
from askonce.providers.extras import import_extra
from askonce.transfer import Outcome, Pair, Problem, Progress, Transfer, ahead, pairs_of

__all__ = ["count_of", "export", "import_file"]

FORMAT = 1
_FORMAT_NAME = b"askonce:format"
_ABANDONED_AFTER = 3600.0
_AT_ONCE = 500
_GROUP_BYTES = 32 * 1024**2
_GROUP_ROWS = 50_000
_BUFFER = 1 << 20
_LATEST = 253402300800.0
"""The year 10000, after which many programs have no dates."""

_LARGEST = 2**31 - 2**20
"""Bytes of a value; Parquet's pages end at 2 GiB."""


def export(
    source: Store,
    path: str | os.PathLike[str],
    *,
    prefix: str = "",
    overwrite: bool = False,
    tell: Callable[[Problem], None] = lambda _: None,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Write every entry of a store whose key starts with `prefix` into a file.

    The file is there once it is complete, and not before. What has expired or is damaged is left
    out, which `tell` hears of. Raises InputError if there is a file already, StoreError.
    """
    sieve = Transfer(source, tell=tell)
    with _replacing(Path(path), overwrite=overwrite) as working, _Writer.open(working) as writer:
        for pairs in ahead(pairs_of(source, prefix)):
            sound = sieve.sound(pairs, flow.now())
            for key, value in sound.items():
                if reason := _unfit(key, value):
                    sieve.refuse(key, reason)
                else:
                    writer.add(key, value)
                    sieve.outcome.copied += 1
            progress(len(pairs))
    return sieve.outcome


def import_file(
    path: str | os.PathLike[str],
    target: Store | Transfer,
    *,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Put every entry of a file into a store, as `askonce.transfer.copy` does.

    Raises InputError for a file of a newer format or another kind, or a damaged one; StoreError.
    """
    transfer = target if isinstance(target, Transfer) else Transfer(target)
    for pairs in ahead(_pairs(Path(path))):
        transfer.put(pairs)
        progress(len(pairs))
    return transfer.outcome


def count_of(path: Path) -> int:
    """Tell how many entries a file holds. Raises InputError."""
    with _reading(path) as table:
        return int(table.metadata.num_rows)


@dataclass
class _Writer:
    """Hold rows until they make a group, which is written at once."""

    file: Any
    schema: Any
    rows: list[tuple[str, bytes, float | None, float | None]] = field(
        default_factory=list[tuple[str, bytes, float | None, float | None]]
    )
    size: int = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> "Generator[_Writer]":
        arrow: Any = import_extra("pyarrow", "bulk", "an export")
        parquet: Any = import_extra("pyarrow.parquet", "bulk", "an export")
        moment = arrow.timestamp("us", tz="UTC")
        schema = arrow.schema(
            [
                arrow.field("key", arrow.string(), nullable=False),
                arrow.field("value", arrow.binary(), nullable=False),
                arrow.field("created", moment),
                arrow.field("expires", moment),
            ],
            metadata={_FORMAT_NAME: str(FORMAT).encode()},
        )
        with parquet.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_page_checksum=True,
            write_statistics=["key", "created", "expires"],
        ) as file:
            writer = cls(file, schema)
            yield writer
            writer.flush()

    def add(self, key: str, value: bytes) -> None:
        created, expires = entry.times_of(value) or (None, None)
        self.rows.append((key, value, created, expires))
        self.size += len(value)
        if self.size >= _GROUP_BYTES or len(self.rows) >= _GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.rows:
            return
        arrow: Any = import_extra("pyarrow", "bulk", "an export")
        keys, values, created, expires = zip(*self.rows, strict=True)
        columns = [
            arrow.array(keys, arrow.string()),
            arrow.array(values, arrow.binary()),
            *(
                arrow.array(list(map(_microseconds, times)), arrow.int64()).cast(field.type)
                for times, field in ((created, self.schema[2]), (expires, self.schema[3]))
            ),
        ]
        self.file.write_table(arrow.Table.from_arrays(columns, schema=self.schema))
        self.rows.clear()
        self.size = 0


def _microseconds(seconds: float | None) -> int | None:
    """Give a moment as Parquet has it; None for never, and for what no calendar has."""
    if seconds is None or not 0 <= seconds < _LATEST:
        return None
    return round(seconds * 1e6)


def _unfit(key: str, value: bytes) -> str | None:
    if len(value) > _LARGEST:
        return "it has more than 2 GiB, which Parquet does not hold"
    try:
        key.encode()
    except UnicodeEncodeError:
        return "its key is no text in UTF-8, which the file needs"
    return None


def _pairs(path: Path) -> Iterator[list[Pair]]:
    arrow: Any = import_extra("pyarrow", "bulk", "an import")
    done = 0
    with _reading(path) as table:
        try:
            # Where another program left key or value out there is nothing to keep.
            for batch in table.iter_batches(
                batch_size=_AT_ONCE, columns=["key", "value"], use_threads=False
            ):
                keys = batch.column("key").to_pylist()
                values = batch.column("value").cast(arrow.large_binary()).to_pylist()
                yield [
                    (key, value)
                    for key, value in zip(keys, values, strict=True)
                    if key and value is not None
                ]
                done += len(keys)
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is damaged after {done} entries ({_short(error)}); what came before is "
                "imported; get a whole copy of the file and import that"
            ) from None


@contextlib.contextmanager
def _reading(path: Path) -> Generator[Any]:
    """Open a file and check that it is ours. Raises InputError."""
    arrow: Any = import_extra("pyarrow", "bulk", "an import")
    parquet: Any = import_extra("pyarrow.parquet", "bulk", "an import")
    if not path.exists():
        raise InputError(f"there is no file {path}; check the path")
    try:
        table = parquet.ParquetFile(
            path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
    except (arrow.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is no whole Parquet file ({_short(error)}); was it cut off? Copy it again"
        ) from None
    with table:
        _check(arrow, path, table.schema_arrow)
        yield table


def _check(arrow: Any, path: Path, schema: Any) -> None:
    said = (schema.metadata or {}).get(_FORMAT_NAME, str(FORMAT).encode())
    if not said.isdigit() or int(said) > FORMAT:
        raise InputError(
            f"{path} has format {said.decode(errors='replace')}, which a newer askonce wrote, and "
            f"this one knows format {FORMAT}; update askonce"
        )
    types = arrow.types
    texts: Sequence[Any] = (types.is_string, types.is_large_string, types.is_string_view)
    contents: Sequence[Any] = (types.is_binary, types.is_large_binary, types.is_binary_view)
    for name, kinds, kind in (("key", texts, "texts"), ("value", contents, "bytes")):
        place = schema.get_field_index(name)
        if place < 0 or not any(is_one(schema.field(place).type) for is_one in kinds):
            raise InputError(
                f"{path} is no export: it has no column {name!r} of {kind}; "
                "docs/reference/export-format.md says what it must have"
            )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextlib.contextmanager
def _replacing(path: Path, *, overwrite: bool) -> Generator[Path]:
    """Give a hidden file beside `path` to write, and put it in its place once it is complete."""
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(
            f"{path} is a folder; name a file"
            if path.is_dir()
            else f"there is a file {path} already; name another, or give --overwrite"
        )
    folder = path.absolute().parent
    start = f".{path.name}."
    with contextlib.suppress(OSError):
        for left in folder.iterdir():
            # A killed export leaves its file; one that goes on writes to it all the time.
            if left.name.startswith(start) and left.name.endswith(".part"):
                with contextlib.suppress(OSError):
                    if left.stat().st_mtime < time.time() - _ABANDONED_AFTER:
                        left.unlink()
    working = folder / f"{start}{secrets.token_hex(8)}.part"
    try:
        os.close(os.open(working, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield working
        with working.open("rb") as file:
            os.fsync(file.fileno())
        working.replace(path)
    except BaseException:
        working.unlink(missing_ok=True)
        raise
