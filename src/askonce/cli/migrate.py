"""The command that takes over what LangChain's caches hold."""

import contextlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from askonce.cli.folder import VectorFolder
from askonce.cli.migration import Copy, Outcome, Problem, Source
from askonce.cli.places import path_of
from askonce.errors import InputError, StoreError
from askonce.stores import open_store

SOME_UNREADABLE = 2
_SHOWN = 20
_SQLITE = b"SQLite format 3\x00"


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new")
@click.option(
    "--namespace",
    default="",
    help="The namespace that answers of a database go to, if not the default one.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file to write what could not be read to, as a line of JSON each.",
)
def migrate(old: Path, new: str, namespace: str, report: Path | None) -> int:
    """Copy LangChain's cache OLD into the store NEW, a URL.

    OLD is a folder of embeddings that LocalFileStore wrote, or a database of answers that
    SQLiteCache wrote (.langchain.db). It is only read. Run the command again to go on with one
    that was stopped: what is there already is left alone.

    Exit code: 0 if all is there now, 2 if some could not be read, 1 if it could not be done.
    """
    _check_apart(old, new)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    progress = _progress(console)
    with contextlib.ExitStack() as closing:
        source = _source(old, namespace, closing)
        tell = closing.enter_context(_report(report, console))
        store = closing.enter_context(open_store(new))
        closing.enter_context(progress)
        task = progress.add_task("migrating", total=source.count())
        copy = Copy(store, tell, lambda count: progress.advance(task, count))
        try:
            copy.run(source)
        except (KeyboardInterrupt, StoreError):
            progress.stop()
            _summarize(copy.outcome)
            click.echo("What was migrated stays; run the command again to go on.", err=True)
            raise
    _summarize(copy.outcome)
    return SOME_UNREADABLE if copy.outcome.unreadable else 0


def _source(old: Path, namespace: str, closing: contextlib.ExitStack) -> Source:
    """Recognize what kind of cache OLD is. Raises InputError if it is none."""
    if old.is_dir():
        return VectorFolder(old)
    try:
        with old.open("rb") as file:
            start = file.read(len(_SQLITE))
    except FileNotFoundError:
        raise InputError(f"there is nothing at {old}; OLD is a folder or a database") from None
    if start != _SQLITE:
        raise InputError(
            f"{old} is no SQLite database; OLD is a folder that LangChain's LocalFileStore wrote "
            "or a database that its SQLiteCache wrote"
        )
    # Only this kind needs the extra `langchain`.
    from askonce.cli.database import AnswerDatabase  # noqa: PLC0415

    database = closing.enter_context(AnswerDatabase(old, namespace))
    if not database.has_answers():
        raise InputError(
            f"{old} holds no table full_llm_cache, so LangChain's SQLiteCache did not write it"
        )
    return database


def _check_apart(old: Path, new: str) -> None:
    """Refuse to write into what is being read."""
    place = path_of(new)
    if place is None:
        return
    place, old = place.resolve(), old.resolve()
    if place == old or old in place.parents:
        raise InputError(
            f"{new!r} lies in OLD itself, which is only read; give NEW a place of its own"
        )


@contextlib.contextmanager
def _report(path: Path | None, console: Console) -> Generator[Callable[[Problem], None]]:
    """Write problems to the report and show the first of them; begin the file only if asked to."""
    shown = 0

    def tell(problem: Problem, file: TextIO | None) -> None:
        nonlocal shown
        if file is not None:
            line = {"origin": problem.origin, "reason": problem.reason}
            file.write(json.dumps(line) + "\n")
        shown += 1
        if shown <= _SHOWN:
            console.print(f"{problem.origin}: {problem.reason}", soft_wrap=True)
        elif shown == _SHOWN + 1:
            console.print("and more; --report FILE writes all of them to a file")

    with contextlib.ExitStack() as stack:
        file = None if path is None else stack.enter_context(path.open("w", encoding="utf-8"))
        yield lambda problem: tell(problem, file)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _summarize(outcome: Outcome) -> None:
    click.echo(
        f"migrated {outcome.migrated}, already there {outcome.there}, "
        f"could not be read {outcome.unreadable}"
    )
