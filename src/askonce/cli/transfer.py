"""The family of commands that bring entries elsewhere: copy, export, import."""

import contextlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TextIO, TypeVar

import click

from askonce import archive, transfer
from askonce.cli.bar import counter, progress
from askonce.cli.places import apart, open_existing
from askonce.errors import InputError
from askonce.stores import open_store, patient

SOME_LEFT = 2
_SHOWN = 20

F = TypeVar("F", bound=Callable[..., object])
Tell = Callable[[transfer.Problem], None]


def _choices(command: F) -> F:
    """Add the options of what writes into a store."""
    for option in (
        click.option(
            "--verify",
            is_flag=True,
            help="Read back what was written, and compare it byte by byte.",
        ),
        click.option(
            "--skip-existing", is_flag=True, help="Leave alone whatever is there under a key."
        ),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Write over what is there, also if it is newer. The epochs of tags never go back.",
        ),
    ):
        command = option(command)
    return command


def _report_option(command: F) -> F:
    return click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file to write each problem's key and reason to, as a line of JSON.",
    )(command)


@click.command()
@click.argument("src")
@click.argument("dst")
@click.option("--prefix", default="", help="Only keys that start with this.")
@_choices
@_report_option
def copy(
    src: str,
    dst: str,
    prefix: str,
    report: Path | None,
    *,
    overwrite: bool,
    skip_existing: bool,
    verify: bool,
) -> int:
    """Copy the entries of the store SRC into the store DST, both URLs, bit for bit.

    SRC is only read. What is in DST with the same bytes is left alone, so a copy that was stopped,
    however it was, goes on when the command is run again. Where DST has other bytes under a key,
    the entry that was made last stays. What has expired stays behind.

    Exit code: 0 if all is there now, 2 if some entries are damaged, were refused or got lost, 1 if
    it could not be done.
    """
    existing = _existing(overwrite=overwrite, skip_existing=skip_existing)
    apart(src, dst)
    with open_existing(patient(src)) as source, open_store(patient(dst)) as target:
        count = counter(source, prefix)
        with _telling(report) as tell, progress("copying", count) as advance:
            outcome = transfer.Outcome()
            work = transfer.Transfer(target, existing, verify, tell, outcome=outcome)
            with _summarized("copied", outcome):
                transfer.copy(source, work, prefix=prefix, progress=advance)
    return SOME_LEFT if outcome.problems else 0


@click.command()
@click.argument("store")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--prefix", default="", help="Only keys that start with this.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@_report_option
def export(store: str, file: Path, prefix: str, report: Path | None, *, overwrite: bool) -> int:
    """Write the entries of the store STORE, a URL, into FILE, which other programs can read.

    FILE is Parquet with the columns key, value, created and expires. It is there once it is
    complete. What has expired stays behind.

    Exit code: 0 if all is there, 2 if some entries are damaged, 1 if it could not be done.
    """
    with open_existing(patient(store)) as source:
        count = counter(source, prefix)
        with _telling(report) as tell, progress("exporting", count) as advance:
            outcome = archive.export(
                source, file, prefix=prefix, overwrite=overwrite, tell=tell, progress=advance
            )
    _summarize("exported", outcome)
    return SOME_LEFT if outcome.problems else 0


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("store")
@_choices
@_report_option
def import_(
    file: Path,
    store: str,
    report: Path | None,
    *,
    overwrite: bool,
    skip_existing: bool,
    verify: bool,
) -> int:
    """Put the entries in FILE, an export, into the store STORE, a URL, bit for bit.

    What is there and what has expired is treated as by `askonce copy`, and an import that was
    stopped goes on when the command is run again.

    Exit code: 0 if all is there now, 2 if some entries are damaged, were refused or got lost, 1 if
    it could not be done.
    """
    existing = _existing(overwrite=overwrite, skip_existing=skip_existing)
    total = archive.count_of(file)
    with open_store(patient(store)) as target, _telling(report) as tell:
        outcome = transfer.Outcome()
        work = transfer.Transfer(target, existing, verify, tell, outcome=outcome)
        with progress("importing", lambda: total) as advance, _summarized("imported", outcome):
            archive.import_file(file, work, progress=advance)
    return SOME_LEFT if outcome.problems else 0


def _existing(*, overwrite: bool, skip_existing: bool) -> transfer.Existing:
    if overwrite and skip_existing:
        raise InputError("--overwrite and --skip-existing exclude each other; give one of them")
    return "replace" if overwrite else "keep" if skip_existing else "newer"


@contextlib.contextmanager
def _telling(path: Path | None) -> Generator[Tell]:
    """Show the first problems, and write all to the report if there is to be one."""
    shown = 0

    def tell(problem: transfer.Problem, file: TextIO | None) -> None:
        nonlocal shown
        if file is not None:
            file.write(json.dumps({"key": problem.key, "reason": problem.reason}) + "\n")
        shown += 1
        if shown <= _SHOWN:
            key = problem.key if problem.key.isprintable() else ascii(problem.key)[1:-1]
            click.echo(f"{key}: {problem.reason}", err=True)
        elif shown == _SHOWN + 1:
            click.echo("and more; --report FILE writes all of them to a file", err=True)

    with contextlib.ExitStack() as stack:
        file = None if path is None else stack.enter_context(path.open("w", encoding="utf-8"))
        yield lambda problem: tell(problem, file)


@contextlib.contextmanager
def _summarized(verb: str, outcome: transfer.Outcome) -> Generator[None]:
    """Say how far it came, also if it is stopped: what came over stays."""
    try:
        yield
    except BaseException:
        _summarize(verb, outcome)
        click.echo(f"What was {verb} stays; run the command again to go on.", err=True)
        raise
    _summarize(verb, outcome)


def _summarize(verb: str, outcome: transfer.Outcome) -> None:
    counts = [
        (outcome.there, "already there"),
        (outcome.kept, "kept as it was in the store"),
        (outcome.expired, "expired"),
        (outcome.problems, "with problems"),
    ]
    click.echo(
        f"{verb} {outcome.copied}" + "".join(f", {told} {count}" for count, told in counts if count)
    )
