"""Time contenders side by side: every round runs each of them once, in turn.

A round's ratio compares two contenders within that round, so a machine that slows down for a
while slows both. What is reported are medians over the rounds.
"""

import functools
import gc
import math
import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONG_ENOUGH = 0.1
"""Seconds: a single run of a few milliseconds would mostly measure what ran before it."""


@dataclass(frozen=True)
class Contender:
    """Be one way to do the work.

    `prepare`, if given, runs before each round and is not timed; `work` gets what it returned and
    is timed. Without it a round repeats the work until that takes `LONG_ENOUGH`, as `timeit` does.
    `share` is which part of the contest's units the work is, for one that would take too long.
    """

    name: str
    work: Callable[[Any], object]
    prepare: Callable[[], Any] | None = None
    share: float = 1.0


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

    `measure` gives what a contender needs in a round; by default seconds are measured. `scale`
    turns that into `unit`.
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
    measures = {
        contender.name: functools.partial(contest.measure, contender)
        if contest.measure
        else _timer(contender)
        for contender in contest.contenders
    }
    for measure in measures.values():
        measure()  # warms up imports, files, connections, the processor
    needed: dict[str, list[float]] = {name: [] for name in measures}
    shares = {contender.name: contender.share for contender in contest.contenders}
    names = list(measures)
    for number in range(contest.rounds or rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            needed[name].append(measures[name]() / shares[name])
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


def _timer(contender: Contender) -> Callable[[], float]:
    """Make what times one round of a contender, with as many repetitions as it takes."""
    prepare = contender.prepare
    if prepare is not None:
        return lambda: _seconds(contender.work, prepare(), 1)
    once = _seconds(contender.work, None, 1)
    times = max(1, math.ceil(LONG_ENOUGH / once))
    return lambda: _seconds(contender.work, None, times)


def _seconds(work: Callable[[Any], object], prepared: object, times: int) -> float:
    gc.collect()
    begin = time.perf_counter()
    for _ in range(times):
        work(prepared)
    return (time.perf_counter() - begin) / times
