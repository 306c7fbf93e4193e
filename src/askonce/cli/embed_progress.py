"""What a bulk job shows: its plan, how far it is, how it ended."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from askonce.bulk import Model, Outcome, Plan

_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""


def show_plan(plan: Plan, model: Model) -> None:
    """Print what there is to do."""
    lines = [
        ("passages", f"{plan.passages:,}"),
        ("unusable rows", f"{plan.refused:,}"),
        ("different texts", f"{plan.unique:,}"),
        ("already stored", f"{plan.cached:,}"),
        ("to ask for", f"{plan.to_ask:,}, in {plan.requests:,} batches"),
        ("tokens", f"about {plan.tokens:,} (estimated)"),
        ("price", _price(plan, model)),
        ("time", _time(plan, model)),
    ]
    for name, text in lines:
        if name != "unusable rows" or plan.refused:
            click.echo(f"{name:<16} {text}")
    sys.stdout.flush()


def _price(plan: Plan, model: Model) -> str:
    if model.is_local:
        return "none, the model is on this machine"
    if plan.price is None:
        return f"unknown, {model.embedder.model!r} is not in the price table"
    return f"about {_money(plan.price)} (estimated)"


def _time(plan: Plan, model: Model) -> str:
    if not plan.to_ask:
        return "that of reading and writing: nothing is asked for"
    if plan.minutes is None:
        return "unknown before it runs; give --rate, what the provider allows"
    how = "at the measured rate" if model.is_local else "at the given rate"
    return f"about {_minutes(plan.minutes)} {how}"


def summarize(outcome: Outcome, folder: Path) -> None:
    """Print how a job ended."""
    money = _spent(outcome)
    click.echo(
        f"embedded {outcome.embedded:,} passages into {folder}, asked for {outcome.asked:,} texts"
        + (f", {money}" if money else "")
    )
    if outcome.failed:
        click.echo(f"{outcome.failed:,} rows failed; {folder / 'failures.jsonl'} says why")


@contextlib.contextmanager
def reading(console: Console) -> Generator[Callable[[int], None]]:
    """Show how many rows the plan has read."""
    total = 0
    line = _Lines()
    with console.status("reading …") if console.is_terminal else contextlib.nullcontext() as status:

        def tick(count: int) -> None:
            nonlocal total
            total += count
            if status is not None:
                status.update(f"reading … {total:,} rows")
            elif line.is_due():
                console.print(f"reading: {total:,} rows")
                line.restart()

        yield tick


@contextlib.contextmanager
def working(console: Console, total: int) -> Generator[Callable[[Outcome], None]]:
    """Show how far the job is: a bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        line = _Lines()

        def write(outcome: Outcome) -> None:
            if line.is_due():
                console.print(line.text(outcome, total), soft_wrap=True)

        yield write
        return
    with Progress(
        TextColumn("embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("embedding", total=total, words="")

        def draw(outcome: Outcome) -> None:
            speed = bar.tasks[0].speed
            words = [f"{speed:,.0f}/s"] if speed else []
            bar.update(task, completed=outcome.rows, words=", ".join([*words, *_words(outcome)]))

        yield draw


class _Lines:
    """Write lines no more often than every few seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._rows = 0

    def is_due(self) -> bool:
        """Tell whether it is time for another line."""
        return time.monotonic() - self._last >= _EVERY

    def restart(self) -> None:
        """Wait anew for the next line."""
        self._last = time.monotonic()

    def text(self, outcome: Outcome, total: int) -> str:
        """Write a line."""
        now = time.monotonic()
        speed = (outcome.rows - self._rows) / max(now - self._last, 1e-9)
        self._last, self._rows = now, outcome.rows
        left = (total - outcome.rows) / speed / 60 if speed else 0.0
        parts = [f"{outcome.rows:,} of {total:,}", f"{speed:,.0f}/s", *_words(outcome)]
        return ", ".join([*parts, f"{_minutes(left)} left"])


def _words(outcome: Outcome) -> list[str]:
    hits = max(0, outcome.rows - outcome.asked)
    words = [f"{hits:,} from the store"]
    if outcome.failed:
        words.append(f"{outcome.failed:,} failed")
    return [*words, *filter(None, [_spent(outcome)])]


def _spent(outcome: Outcome) -> str:
    if not (outcome.spent or outcome.saved):
        return ""
    return f"spent {_money(outcome.spent or 0)}, saved about {_money(outcome.saved or 0)}"


def _money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 0.01 or not dollars else f"${dollars:.2g}"


def _minutes(minutes: float) -> str:
    if minutes < 1.5:
        return f"{minutes * 60:.0f} seconds"
    return f"{minutes:,.0f} minutes" if minutes < 120 else f"{minutes / 60:,.1f} hours"
