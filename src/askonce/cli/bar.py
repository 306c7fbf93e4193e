"""The bar that shows how far a command has come with a store's entries."""

import contextlib
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from askonce.core.store import Store


class _Rate(ProgressColumn):
    """Show how many entries are done in a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


def counter(store: Store, prefix: str) -> Callable[[], int]:
    """Give what counts the entries below a prefix."""
    return lambda: sum(1 for _ in store.keys(prefix))


@contextlib.contextmanager
def progress(description: str, count: Callable[[], int]) -> Generator[Callable[[int], None]]:
    """Show a bar on a terminal; entries are counted for it only there."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as shown:
        task = shown.add_task(description, total=None)
        shown.update(task, total=count())
        yield lambda done: shown.advance(task, done)
