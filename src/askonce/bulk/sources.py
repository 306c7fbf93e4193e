"""Where passages come from: files by their suffix, folders of them, and standard input."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from askonce.bulk.lines import read_json_lines, read_text
from askonce.bulk.passages import Reading, Row, Rows
from askonce.bulk.tables import read_csv, read_parquet
from askonce.errors import InputError

STANDARD_INPUT = "-"

READERS: dict[str, Callable[[BinaryIO, Rows], Iterator[Row]]] = {
    ".txt": read_text,
    ".jsonl": read_json_lines,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Source:
    """Be one file: the name it goes by in ids and messages, and how it is opened and read."""

    name: str
    suffix: str
    open: Callable[[], BinaryIO]


@dataclass
class Corpus:
    """Be all files of a job, read one after the other as often as wanted, never whole."""

    reading: Reading
    sources: list[Source]
    _spool: BinaryIO | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, inputs: Sequence[str], reading: Reading, *, stdin: BinaryIO, stdin_suffix: str = ".txt"
    ) -> "Corpus":
        """Find the files of inputs: a folder's by suffix, in the order of their paths.

        `-` is copied from `stdin` into a temporary file. Raises InputError.
        """
        spool: BinaryIO | None = None
        sources: list[Source] = []
        found: list[tuple[str, Path]] = []
        for given in inputs:
            if given != STANDARD_INPUT:
                found += _files_of(given)
            elif spool is None:
                spool = _spooled(stdin)
                sources.append(Source("stdin", stdin_suffix, _reopener(spool)))
        names = Counter(name for name, _ in found)
        for name, path in found:
            # Two files of one name are told apart by their paths.
            shown = name if names[name] == 1 else path.as_posix()
            sources.append(Source(shown, path.suffix.lower(), _opener(path)))
        return cls(reading, sources, spool)

    def rows(self) -> Iterator[Row]:
        """Read every row. Raises InputError that names file, row and remedy."""
        for source in self.sources:
            try:
                with source.open() as file:
                    yield from READERS[source.suffix](file, Rows(source.name, self.reading))
            except OSError as error:
                raise InputError(
                    f"{source.name} cannot be read: {error.strerror or error}; "
                    "check the path and its permissions"
                ) from error

    def close(self) -> None:
        """Let go of what standard input was copied to."""
        if self._spool is not None:
            self._spool.close()


def _files_of(given: str) -> list[tuple[str, Path]]:
    path = Path(given)
    if not path.exists():
        raise InputError(f"there is nothing at {given}; check the path")
    if not path.is_dir():
        if path.suffix.lower() not in READERS:
            raise InputError(f"{given} is none of {_known()}; rename or convert it")
        return [(path.name, path)]
    files: list[tuple[str, Path]] = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            (one.relative_to(path).as_posix(), one)
            for one in (Path(folder, name) for name in names if not name.startswith("."))
            if one.suffix.lower() in READERS and one.is_file()
        ]
    if not files:
        raise InputError(f"the folder {given} holds none of {_known()}")
    return sorted(files)


def _known() -> str:
    return ", ".join(READERS)


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb", buffering=_BUFFER)


def _spooled(stdin: BinaryIO) -> BinaryIO:
    # Without a name, so that nothing is left behind however the job ends.
    spool: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(stdin, spool, _BUFFER)
    spool.flush()
    return spool


def _reopener(spool: BinaryIO) -> Callable[[], BinaryIO]:
    def reopen() -> BinaryIO:
        spool.seek(0)
        return os.fdopen(os.dup(spool.fileno()), "rb", buffering=_BUFFER)

    return reopen
