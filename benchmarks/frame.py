"""Time contenders side by side: every round runs each of them once, in turn.

A round's ratio compares two contenders within that round, so a machine that slows down for a
while slows both. What is reported are medians over the rounds.
"""

import gc
import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Contender:
    """Be one way to do the work.

    `prepare` runs before each round and is not timed; `work` gets what it returned and is timed.
    """

    name: str
    work: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Comparison:
    """Compare what two contenders need; `goal` is how many times less `name` shall need."""

    name: str
    against: str
    goal: float | None = None

    @property
    def goal_text(self) -> str:
        if self.goal is None:
            return ""
        if self.goal >= 1:
            return f"≥ {self.goal:g}× less"
        return f"≤ {1 / self.goal:.3g}× as much"


@dataclass(frozen=True)
class Contest:
    """Let contenders do the same work: `units` of it a round, each taking so many `unit`.

    `measure` gives what each contender needs, round by round; by default seconds are measured.
    `scale` turns that into `unit`.
    """

    title: str
    unit: str
    contenders: Sequence[Contender]
    comparisons: Sequence[Comparison]
    units: int = 1
    scale: float = 1e6
    rounds: int | None = None
    measure: Callable[[Contender], float] | None = None


@dataclass(frozen=True)
class Result:
    """Hold what one contender needed, and how that compares with another."""

    title: str
    name: str
    value: float
    unit: str
    comparison: Comparison | None = None
    ratio: float | None = None

    @property
    def met(self) -> bool | None:
        if self.ratio is None or self.comparison is None or self.comparison.goal is None:
            return None
        return self.ratio >= self.comparison.goal


def run(contest: Contest, *, rounds: int) -> list[Result]:
    """Hold a contest and give a result for each contender and comparison."""
    measure = contest.measure or _seconds
    rounds = contest.rounds or rounds
    for contender in contest.contenders:
        measure(contender)  # warms up imports, files, connections, the processor
    needed: dict[str, list[float]] = {contender.name: [] for contender in contest.contenders}
    for number in range(rounds):
        start = number % len(contest.contenders)
        for contender in [*contest.contenders[start:], *contest.contenders[:start]]:
            needed[contender.name].append(measure(contender))
    return [result for name in needed for result in _results(contest, name, needed)]


def _results(contest: Contest, name: str, needed: Mapping[str, list[float]]) -> list[Result]:
    value = statistics.median(needed[name]) / contest.units * contest.scale
    compared = [
        Result(
            contest.title,
            name,
            value,
            contest.unit,
            comparison,
            statistics.median(map(operator.truediv, needed[comparison.against], needed[name])),
        )
        for comparison in contest.comparisons
        if comparison.name == name
    ]
    return compared or [Result(contest.title, name, value, contest.unit)]


def _seconds(contender: Contender) -> float:
    prepared = contender.prepare()
    gc.collect()
    begin = time.perf_counter()
    contender.work(prepared)
    return time.perf_counter() - begin
