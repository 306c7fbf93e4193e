"""The folder of a job's files: all of them there and complete, or none."""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Protocol, Self

from askonce.bulk.passages import Refused
from askonce.bulk.stopping import JobError
from askonce.core.vectors import Vectors
from askonce.errors import InputError

Format = Literal["parquet", "npy"]

META = "meta.json"
FAILURES = "failures.jsonl"


class Writer(Protocol):
    """Write vectors with their names into files of one kind."""

    def write(self, ids: Sequence[str], hashes: Sequence[str], vectors: Vectors) -> None:
        """Write some rows more."""
        ...

    def close(self) -> list[str]:
        """Complete the files and tell their names."""
        ...

    def abandon(self) -> None:
        """Let go of the files as they are."""
        ...


class Output:
    """Fill a hidden folder beside the one that is wanted, and put it in its place at the end.

    What a killed job left there is removed. Raises InputError if the wanted folder holds
    anything that no job wrote, or if another job is filling it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._work = self.folder.parent / f".{self.folder.name}.askonce"
        self._filling = self._work / "output"
        self._check_place()

    def __enter__(self) -> Self:
        self._work.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._work / "lock", self.folder)
        for left in ("output", "old"):
            shutil.rmtree(self._work / left, ignore_errors=True)
        self._filling.mkdir()
        # Only the failures themselves are told one by one; there may be none for hours.
        self._failures: IO[str] | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._failures is not None:
            self._failures.close()
        self._lock.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Tell where to write a file."""
        return self._filling / name

    def refuse(self, row: Refused) -> None:
        """Write down a row that has no vector."""
        if self._failures is None:
            self._failures = self.path(FAILURES).open("w", encoding="utf-8")
        line = {"id": row.id, "file": row.file, "row": row.row, "reason": row.reason}
        self._failures.write(json.dumps(line, ensure_ascii=False) + "\n")

    def complete(self, files: Sequence[str], meta: Mapping[str, object]) -> None:
        """Put all files in their place at once."""
        files = [*files, META]
        if self._failures is not None:
            files.append(FAILURES)
            self._failures.close()
            sync(self.path(FAILURES))
        content = {**meta, "files": sorted(files)}
        self.path(META).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        sync(self.path(META))
        self._check_place()
        if self.folder.exists():
            self.folder.rename(self._work / "old")
        self._filling.rename(self.folder)

    def _check_place(self) -> None:
        if not self.folder.exists():
            return
        if not self.folder.is_dir() or self.folder.is_mount():
            raise InputError(f"{self.folder} is no folder that can be replaced; give another --out")
        names = {path.name for path in self.folder.iterdir()}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            names -= set(json.loads((self.folder / META).read_text(encoding="utf-8"))["files"])
        if names:
            raise InputError(
                f"{self.folder} holds {min(names)}, which no job of askonce wrote; "
                "give --out a folder of its own"
            )


def _lock(path: Path, folder: Path) -> sqlite3.Connection:
    """Hold a lock that ends with this process, however it ends."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise InputError(f"another job is writing to {folder}; wait for it") from None
        raise JobError(f"cannot write beside {folder}: {error}") from error
    return connection


def sync(path: Path) -> None:
    """Have the disk keep a file, before its name says that it is there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
