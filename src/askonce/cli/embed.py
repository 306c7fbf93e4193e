"""The command that embeds a corpus."""

import contextlib
import os
import shlex
import signal
import sys
import urllib.parse
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from askonce.bulk import Corpus, Job, JobError, Rate, Stopped, open_model, plan
from askonce.bulk.job import observer
from askonce.bulk.models import Wishes
from askonce.bulk.output import Format, Output
from askonce.bulk.passages import Reading, Split
from askonce.bulk.sources import STANDARD_INPUT
from askonce.bulk.stopping import Brake
from askonce.cli.embed_progress import reading, show_plan, summarize, working
from askonce.errors import InputError
from askonce.providers import cache
from askonce.providers.extras import import_extra
from askonce.stores import open_store

SOME_FAILED = 2
INTERRUPTED = 130
_CURSOR = b"\x1b[?25h" if sys.stderr.isatty() else b""


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT…")
@click.option(
    "--model",
    "spec",
    required=True,
    help="openai:NAME, onnx:DIR, model2vec:PATH, sentence-transformers:NAME or "
    "python:MODULE:FUNCTION.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to make, with all files in it once all is done; not needed for --plan.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Only tell what there is to do.")
@click.option("--column", default="text", help="The column of the texts; text by default.")
@click.option("--id", "id_column", help="The column of the ids; by default file and row.")
@click.option(
    "--split",
    type=click.Choice(["line", "paragraph"]),
    default="line",
    help="What a passage is in .txt files; a line by default.",
)
@click.option(
    "--stdin-format",
    type=click.Choice(["txt", "jsonl", "csv"]),
    default="txt",
    help="What `-` is; txt by default.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "npy"]),
    default="parquet",
    help="What to write: Parquet by default, or vectors.npy and ids.parquet.",
)
@click.option("--store", "url", help="The store's URL; by default a file in your cache folder.")
@click.option("--namespace", default="", help="The namespace in the store, if not the default.")
@click.option("--base-url", help="Another server with OpenAI's interface, for openai:NAME.")
@click.option("--dimensions", type=click.IntRange(1), help="How long vectors shall be.")
@click.option(
    "--rate",
    help="What the provider allows a minute, such as 3000rpm,1Mtpm; kept to, and planned with.",
)
@click.option("--concurrency", type=click.IntRange(1), help="Batches under way at once.")
@click.option("--batch-size", type=click.IntRange(1), help="Texts in a batch, which is a request.")
@click.pass_context
def embed(context: click.Context, /, **options: Any) -> int:
    """Embed the passages of files, folders or standard input (-) into files of vectors.

    Reads .txt (a passage a line), .jsonl, .csv and .parquet. First it tells what there is to do
    and what that costs. What is in the store is not asked for, so a job that was stopped, however
    it was, goes on where it was when the command is run again.

    Exit code: 0 if all is embedded, 2 if some passages failed (DIR/failures.jsonl says which and
    why), 1 if it could not be done, 130 after Ctrl-C.
    """
    import_extra("pyarrow", "bulk", "askonce embed")
    order = _Order(**options)
    if order.out is None and not order.only_plan:
        raise InputError("--out is missing: the folder to write; or give --plan only to look")
    brake = Brake()
    try:
        with _interrupts(brake):
            return _carry_out(order, brake)
    except Stopped:
        _console().print(f"Stopped. {_how_to_go_on(context)}", soft_wrap=True)
        return INTERRUPTED
    except JobError as error:
        raise JobError(f"{error}. {_how_to_go_on(context)}") from error


@dataclass(frozen=True)
class _Order:
    """Hold the command line."""

    inputs: tuple[str, ...]
    spec: str
    out: Path | None
    only_plan: bool
    column: str
    id_column: str | None
    split: Split
    stdin_format: str
    kind: Format
    url: str | None
    namespace: str
    base_url: str | None
    dimensions: int | None
    rate: str | None
    concurrency: int | None
    batch_size: int | None


def _carry_out(order: _Order, brake: Brake) -> int:
    console = _console()
    with contextlib.ExitStack() as closing:
        out = None if order.only_plan else order.out
        output = None
        if out is not None:
            _check_apart(order.inputs, out)
            output = closing.enter_context(Output(out))
        rate = Rate.of(order.rate) if order.rate else Rate()
        model = open_model(
            order.spec, Wishes(order.base_url, order.dimensions, rate, order.only_plan)
        )
        if STANDARD_INPUT in order.inputs:
            console.print("Copying standard input into a temporary file, to read it twice.")
        corpus = Corpus.of(
            order.inputs,
            Reading(order.column, order.id_column, order.split),
            stdin=sys.stdin.buffer,
            stdin_suffix=f".{order.stdin_format}",
        )
        closing.callback(corpus.close)
        store = closing.enter_context(open_store(order.url or _own_store(console)))
        batch_size = order.batch_size or model.batch_size
        at_once = order.concurrency or model.at_once
        with reading(console) as tick:
            found = plan(
                corpus.rows(),
                cache(model.embedder, store, order.namespace, observe=observer(brake)),
                model,
                brake,
                batch_size=batch_size,
                tick=tick,
            )
        show_plan(found, model)
        if out is None or output is None:
            return 0
        job = Job(
            model,
            store,
            found,
            brake,
            namespace=order.namespace,
            batch_size=batch_size,
            at_once=at_once,
        )
        with working(console, found.rows) as tell:
            outcome = job.run(corpus.rows(), output, order.kind, tell)
        summarize(outcome, out)
        return SOME_FAILED if outcome.failed else 0


def _console() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def _check_apart(inputs: Sequence[str], out: Path) -> None:
    """Refuse to write where passages are read from: the next job would read what this one wrote."""
    place = out.resolve()
    for given in inputs:
        path = Path(given).resolve()
        if given != STANDARD_INPUT and (path == place or path in place.parents):
            raise InputError(f"{out} lies in the input {given}; give --out a place of its own")


def _own_store(console: Console) -> str:
    platformdirs: Any = import_extra("platformdirs", "bulk", "the default store")
    folder = Path(platformdirs.user_cache_path("askonce", appauthor=False))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = f"sqlite:///{urllib.parse.quote(str(folder / 'embeddings.db'))}"
    console.print(f"The store is {url}", soft_wrap=True)
    return url


@contextlib.contextmanager
def _interrupts(brake: Brake) -> Generator[None]:
    """Let the first Ctrl-C stop the job in good order, and the second at once."""

    def interrupted(*_: object) -> None:
        if brake.pulled.is_set():
            # Threads wait for answers; what they would bring is not stored, all else is.
            os.write(2, _CURSOR + b"Stopped at once.\n")
            os._exit(INTERRUPTED)
        os.write(2, b"\nFinishing the batches under way; Ctrl-C again stops at once.\n")
        brake.stop()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _how_to_go_on(context: click.Context) -> str:
    """Write the command as it was given."""
    words = ["askonce", "embed"]
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        value: Any = context.params[name]
        if isinstance(parameter, click.Argument):
            words += map(str, value)
        else:
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return f"What was stored stays; go on with: {shlex.join(words)}"
