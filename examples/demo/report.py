"""What the demo prints."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

console = Console(highlight=False)
_STYLES = {"right": "green", "could not run": "yellow", "wrong": "bold red"}
_RUNS = ("first time", "again", "in a new process")


@dataclasses.dataclass
class Outcome:
    """Hold how one part went: right, could not run, or wrong, and why."""

    title: str
    verdict: str
    reason: str = ""


def opening(folder: Path) -> None:
    """Say what follows."""
    console.rule("[bold]askonce: ask a model once, keep the answer")
    console.print(f"Starting from an empty cache in {escape(str(folder))}")


def heading(title: str) -> None:
    """Begin a part."""
    console.print(f"\n[bold cyan]{title}")


def outcome(one: Outcome) -> None:
    """Say how one part went."""
    reason = f": {one.reason}" if one.reason else ""
    style = _STYLES[one.verdict]
    console.print(f"[{style}]{one.verdict:13}[/] {escape(one.title + reason)}")


def closing(outcomes: Iterable[Outcome]) -> None:
    """Say how all parts went."""
    console.print()
    console.rule()
    for one in outcomes:
        outcome(one)


def trace() -> None:
    """Show where an unexpected error came from."""
    console.print_exception(max_frames=6)


def slow_model() -> None:
    """Say that patience is needed."""
    console.print("This model takes a minute or more for the passages, once for each cache.")


def passages(corpus: ModuleType, texts: Sequence[str]) -> None:
    """Show the text and its passages."""
    path = corpus.PATH
    console.print(f"{path.name}: {corpus.SOURCE}, {path.stat().st_size:,} bytes")
    console.print(
        f"TextLoader and CharacterTextSplitter: {len(texts):,} passages, "
        f"{len(set(texts)):,} of them different"
    )


def embedding(name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Show the runs with askonce and with LangChain's own cache."""
    table = Table(title=f"Into a FAISS index through CacheBackedEmbeddings ({name})")
    table.add_column("cache")
    table.add_column("run", no_wrap=True)
    for title in ("model calls", "texts", "model s", "seconds", "ratio"):
        table.add_column(title, justify="right")
    rows = [("askonce", ours), ("LangChain", theirs)]
    for title, runs in rows:
        for run, seen in zip(_RUNS, runs, strict=False):
            ratio = "" if seen is runs[0] else f"{runs[0].seconds / seen.seconds:,.0f}×"
            table.add_row(
                title,
                run,
                str(seen.calls),
                f"{seen.asked:,}",
                f"{seen.model_seconds:.3f}",
                f"{seen.seconds:.3f}",
                ratio,
            )
            title = ""
        table.add_section()
    console.print(table)
    console.print(
        "texts: what the model was asked for. seconds: embed_documents alone, the model's included."
    )


def disk(ours: tuple[int, int], theirs: tuple[int, int], index: Any) -> None:
    """Show what the vectors take: bytes in files, and bytes of disk blocks."""
    table = Table(title="Kept")
    table.add_column("format")
    table.add_column("MB in files", justify="right")
    table.add_column("MB of disk", justify="right")
    rows = [("askonce, one SQLite file", ours), ("LangChain, a JSON file a vector", theirs)]
    for title, sizes in rows:
        table.add_row(title, *(f"{size / 1e6:.2f}" for size in sizes))
    table.add_row("the bare float32 numbers", f"{index.ntotal * index.d * 4 / 1e6:.2f}", "")
    console.print(table)


def keys(found: Iterable[str]) -> None:
    """Show some keys of the store."""
    console.print("Some keys of the store:")
    for key in itertools.islice(found, 3):
        console.print(f"  {escape(key)}", no_wrap=True, overflow="ellipsis")


def answers(index: Any, questions: Iterable[str]) -> None:
    """Ask the index for the nearest passages."""
    for question in questions:
        (document, distance), *_ = index.similarity_search_with_score(question, k=1)
        text = " ".join(document.page_content.split())
        console.print(f"[bold]{question}[/]  [dim]distance {distance:.2f}[/]")
        indented(f"{text[:230]} …")


def indented(text: str) -> None:
    """Print a text with a margin."""
    console.print(Padding(escape(text), (0, 0, 0, 2)))


def chat(model: str, question: str, runs: Sequence[Any]) -> None:
    """Show the answers and what each cost."""
    table = Table(title=f"{question!r}, asked of {model} through ChatOpenAI with SQLiteCache")
    table.add_column("run", no_wrap=True)
    for title in ("requests", "tokens counted", "marked a hit", "seconds", "ratio"):
        table.add_column(title, justify="right")
    for run, seen in zip(_RUNS, runs, strict=True):
        ratio = "" if seen is runs[0] else f"{runs[0].seconds / seen.seconds:,.0f}×"
        table.add_row(
            run,
            str(seen.requests),
            str(seen.tokens),
            "yes" if seen.marked else "no",
            f"{seen.seconds:.4f}",
            ratio,
        )
    console.print(table)
    contents = dict.fromkeys(seen.content for seen in runs)
    console.print("The one answer to all three:" if len(contents) == 1 else "The answers:")
    for content in contents:
        indented(content)
    metadata = [seen.response_metadata for seen in runs]
    same = "equal" if all(one == metadata[0] for one in metadata) else "NOT equal"
    console.print(f"response_metadata of the three: {same} ({', '.join(metadata[0])})")
