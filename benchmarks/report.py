"""Show results as a table on the screen, as a page of Markdown, and as a chart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.frame import Result

HEADINGS = ("contender", "needs", "unit", "against", "compared", "goal", "met")
_COLOURS = {True: "#2e7d32", False: "#c62828"}


def show(console: Console, results: Sequence[Result], machine: Sequence[str]) -> None:
    """Print one table a contest, then the verdict."""
    for title in _titles(results):
        table = Table(title=title, title_justify="left", title_style="bold", min_width=100)
        for heading in HEADINGS:
            table.add_column(
                heading, justify="right" if heading in ("needs", "compared") else "left"
            )
        for result in _of(results, title):
            style = {True: "green", False: "red", None: ""}[result.met]
            table.add_row(*_cells(result), style=style)
        console.print(table)
    for line in machine:
        console.print(line, highlight=False)
    for line in _verdict(results):
        console.print(line, style="bold", highlight=False)


def write(
    folder: Path,
    bench: ModuleType,
    results: Sequence[Result],
    machine: Sequence[str],
    *,
    command: str,
) -> None:
    """Write NAME.md and NAME.svg."""
    name = bench.__name__.rpartition(".")[2]
    lines = [
        *head(bench.TITLE, bench.__doc__, command, machine),
        "All contenders take turns within each round. A value is the median over the rounds; "
        "a ratio is the median of the ratios within each round.",
        "",
        *_verdict(results),
        "",
        f"![How many times less each contender needs]({name}.svg)",
    ]
    for title in _titles(results):
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += [_line(HEADINGS), "|---|--:|---|---|--:|---|---|"]
        lines += [_line(_cells(result)) for result in _of(results, title)]
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _chart(folder / f"{name}.svg", bench.TITLE, results)


def head(title: str, about: str | None, command: str, machine: Sequence[str]) -> list[str]:
    """Give the lines with which a page begins: what it is about, and how and where it was made."""
    return [
        f"# {title}",
        "",
        *(about or "").strip().splitlines(),
        "",
        "This page is written by the command below; run it to measure on a machine of your own.",
        "",
        "```",
        command,
        "```",
        "",
        *(f"- {line}" for line in machine),
        "",
    ]


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Axes]:
    """Give axes to draw on, and write them as a chart that is the same for the same drawing."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "askonce", "font.size": 8}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        yield axes
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _chart(path: Path, title: str, results: Sequence[Result]) -> None:
    """Draw how many times less each contender with a goal needs, and a mark where the goal is."""
    shown = [result for result in results if result.met is not None]
    labels = [f"{result.title}\n{result.name} / {result.comparison.against}" for result in shown]
    with drawing(path, 10, 0.5 * len(shown) + 1.2) as axes:
        places = range(len(shown))
        axes.barh(
            places,
            [result.ratio - 1 for result in shown],
            left=1,
            color=[_COLOURS[result.met] for result in shown],
        )
        for place, result in enumerate(shown):
            axes.plot([result.comparison.goal] * 2, [place - 0.45, place + 0.45], color="black")
            end = max(result.ratio, 1)
            axes.annotate(f" {_number(result.ratio)}×", (end, place), va="center")
        axes.set_xscale("log")
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.01)
        axes.set_xlabel("times less than the other needs (log scale); the black mark is the goal")
        axes.set_title(title)


def _titles(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.title for result in results))


def _of(results: Sequence[Result], title: str) -> list[Result]:
    return [result for result in results if result.title == title]


def _cells(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        _number(result.value),
        result.unit,
        result.comparison.against if result.comparison else "",
        "" if result.ratio is None else _compared(result.ratio),
        result.comparison.goal_text if result.comparison else "",
        {True: "yes", False: "NO", None: ""}[result.met],
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _compared(ratio: float) -> str:
    return f"{_number(ratio)}× less" if ratio >= 1 else f"{_number(1 / ratio)}× as much"


def _verdict(results: Sequence[Result]) -> list[str]:
    judged = [result for result in results if result.met is not None]
    missed = [result for result in judged if not result.met]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} goals met."]
    if missed:
        lines += ["", "Missed:", ""]
    return lines + [
        f"- {result.title}: {result.name}, against {result.comparison.against}: "
        f"{_compared(result.ratio)}; the goal is {result.comparison.goal_text}"
        for result in missed
    ]
