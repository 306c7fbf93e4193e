import itertools

import pytest

from benchmarks import frame
from benchmarks.frame import Comparison, Contender, Contest, run


def contest(needs: dict[str, list[float]], comparisons: list[Comparison], **options) -> Contest:
    """Hold a contest whose measurements are prepared; the first of each is the warm-up."""
    prepared = {name: iter([1e9, *values]) for name, values in needs.items()}
    return Contest(
        "a contest",
        "µs per item",
        [Contender(name, lambda _: None) for name in needs],
        comparisons,
        measure=lambda contender: next(prepared[contender.name]),
        **options,
    )


def test_values_are_medians_and_ratios_are_taken_round_by_round() -> None:
    # In the second round the whole machine was ten times slower.
    needs = {"theirs": [8.0, 80.0, 9.0], "ours": [2.0, 20.0, 3.0]}
    theirs, ours = run(contest(needs, [Comparison("ours", "theirs", 4)], units=2), rounds=3)

    assert (theirs.value, theirs.ratio, theirs.met) == (9.0 / 2 * 1e6, None, None)
    assert (ours.value, ours.ratio, ours.met) == (3.0 / 2 * 1e6, 4.0, True)


def test_a_missed_goal_is_missed() -> None:
    needs = {"theirs": [10.0], "ours": [2.0]}
    _, ours = run(contest(needs, [Comparison("ours", "theirs", 6)]), rounds=1)
    assert ours.met is False
    assert ours.comparison.goal_text == "≥ 6× less"


def test_one_contender_may_be_compared_with_several() -> None:
    needs = {"theirs": [10.0], "ours": [5.0], "raw": [4.0]}
    comparisons = [Comparison("ours", "theirs"), Comparison("ours", "raw", 1 / 1.15)]
    results = run(contest(needs, comparisons), rounds=1)
    assert [(result.ratio, result.met) for result in results if result.name == "ours"] == [
        (2.0, None),
        (0.8, False),
    ]
    assert comparisons[1].goal_text == "≤ 1.15× as much"


def test_contenders_take_turns_at_being_first_and_prepare_before_each_round() -> None:
    order = []
    contenders = [  # what prepares is never repeated within a round
        Contender(name, order.append, prepare=lambda name=name: name) for name in ("a", "b", "c")
    ]
    run(Contest("turns", "µs", contenders, []), rounds=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_short_work_is_repeated_within_a_round_and_reported_for_once(monkeypatch) -> None:
    clock = itertools.count(step=0.01)
    monkeypatch.setattr(frame.time, "perf_counter", lambda: next(clock))
    times = []
    (result,) = run(Contest("short", "s", [Contender("a", times.append)], [], scale=1), rounds=1)

    assert len(times) == 1 + 10 + 10  # to find out, to warm up, and the round
    assert result.value == pytest.approx(0.01 / 10)
