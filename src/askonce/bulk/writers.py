"""Vectors as files: one array for numpy, or parts of Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from askonce.bulk.output import Format, Output, Writer, sync
from askonce.core.vectors import Vectors
from askonce.providers.extras import import_extra

_GROUP = 64 * 1024 * 1024
"""Bytes of vectors in a group of rows, which a writer holds and a reader takes at once."""

_PART = 1024 * 1024 * 1024
"""Bytes of vectors in a file."""

_NAMES_AT_ONCE = 65536


def open_writer(kind: Format, output: Output, dimensions: int) -> Writer:
    """Begin files of a kind, for vectors of these dimensions."""
    return _WRITERS[kind](output, dimensions)


class ParquetWriter:
    """Write `part-00000.parquet` and so on: id, hash of the text (SHA-256), vector of float32."""

    def __init__(self, output: Output, dimensions: int) -> None:
        arrow: Any = import_extra("pyarrow", "bulk", "writing Parquet")
        self._arrow = arrow
        self._output = output
        self._kind = arrow.list_(
            arrow.field("element", arrow.float32(), nullable=False), dimensions
        )
        self._schema = arrow.schema(
            [
                arrow.field("id", arrow.string(), nullable=False),
                arrow.field("hash", arrow.string(), nullable=False),
                arrow.field("vector", self._kind, nullable=False),
            ]
        )
        size = dimensions * 4
        self._group = max(1, _GROUP // size)
        self._groups_a_part = max(1, _PART // (self._group * size))
        self._rows: NDArray[np.float32] = np.empty((self._group, dimensions), np.float32)
        self._ids: list[str] = []
        self._hashes: list[str] = []
        self._file: Any = None
        self._groups = 0
        self._names: list[str] = []

    def write(self, ids: Sequence[str], hashes: Sequence[str], vectors: Vectors) -> None:
        start = 0
        while start < len(ids):
            held = len(self._ids)
            end = min(len(ids), start + self._group - held)
            self._rows[held : held + end - start] = vectors[start:end]
            self._ids += ids[start:end]
            self._hashes += hashes[start:end]
            start = end
            if len(self._ids) == self._group:
                self._write_group()

    def close(self) -> list[str]:
        if self._ids:
            self._write_group()
        self._close_part()
        return self._names

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write_group(self) -> None:
        arrow = self._arrow
        if self._file is None:
            self._names.append(f"part-{len(self._names):05}.parquet")
            path = self._output.path(self._names[-1])
            self._file = _parquet_file(path, self._schema)
        flat = arrow.array(self._rows[: len(self._ids)].reshape(-1))
        vectors = arrow.FixedSizeListArray.from_arrays(flat, type=self._kind)
        columns = [
            arrow.array(self._ids, arrow.string()),
            arrow.array(self._hashes, arrow.string()),
            vectors,
        ]
        self._file.write_table(arrow.Table.from_arrays(columns, schema=self._schema))
        self._ids.clear()
        self._hashes.clear()
        self._groups += 1
        if self._groups == self._groups_a_part:
            self._close_part()

    def _close_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._groups = 0
            sync(self._output.path(self._names[-1]))


class NpyWriter:
    """Write `vectors.npy`, and `ids.parquet` with the id and the hash of each row's text."""

    def __init__(self, output: Output, dimensions: int) -> None:
        arrow: Any = import_extra("pyarrow", "bulk", "writing ids.parquet")
        self._arrow = arrow
        self._dimensions = dimensions
        self._paths = [output.path("vectors.npy"), output.path("ids.parquet")]
        self._vectors = self._paths[0].open("wb")
        self._count = 0
        self._write_header()
        self._schema = arrow.schema(
            [arrow.field(name, arrow.string(), nullable=False) for name in ("id", "hash")]
        )
        self._ids = _parquet_file(self._paths[1], self._schema)
        self._held: tuple[list[str], list[str]] = ([], [])

    def write(self, ids: Sequence[str], hashes: Sequence[str], vectors: Vectors) -> None:
        self._vectors.write(np.ascontiguousarray(vectors, "<f4").data)
        self._count += len(ids)
        self._held[0].extend(ids)
        self._held[1].extend(hashes)
        if len(self._held[0]) >= _NAMES_AT_ONCE:
            self._write_names()

    def close(self) -> list[str]:
        self._write_names()
        self._ids.close()
        self._vectors.seek(0)
        self._write_header()
        self._vectors.close()
        for path in self._paths:
            sync(path)
        return [path.name for path in self._paths]

    def abandon(self) -> None:
        self._vectors.close()
        self._ids.close()

    def _write_names(self) -> None:
        arrow = self._arrow
        columns = [arrow.array(names, arrow.string()) for names in self._held]
        self._ids.write_table(arrow.Table.from_arrays(columns, schema=self._schema))
        for names in self._held:
            names.clear()

    def _write_header(self) -> None:
        """Write how many rows there are; numpy leaves room for that number to grow."""
        shape = (self._count, self._dimensions)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._vectors, header)


_WRITERS: dict[Format, type[ParquetWriter] | type[NpyWriter]] = {
    "parquet": ParquetWriter,
    "npy": NpyWriter,
}


def _parquet_file(path: Path, schema: Any) -> Any:
    parquet: Any = import_extra("pyarrow.parquet", "bulk", "writing Parquet")
    # Vectors are noise to a compressor, and their pages need neither dictionary nor statistics.
    return parquet.ParquetWriter(
        path,
        schema,
        compression={"id": "zstd", "hash": "none", "vector.list.element": "none"},
        use_dictionary=False,
        write_statistics=["id", "hash"],
    )
