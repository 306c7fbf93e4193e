"""Requests and providers' answers of which a good part is broken, by the hundred thousand.

The generators are those of the tests. Requests are well-formed HTTP whose bodies, headers and paths
are often not what they should be; answers are cut, garbled, of wrong length, of odd statuses, or do
not come at all; callers go away in the middle. The gateway runs in this process with its real
protocols on both sides, over connections that exist only in memory. Every answer is checked:

- it is of its own question, for its own caller: each carries the digest of what decides it;
- what comes from the cache is whole, and the provider had said it whole;
- there is an answer within 30 seconds, and a 5xx only where the provider gave cause for it;
- afterwards no task is left.
"""

import argparse
import asyncio
import concurrent.futures
import logging
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.machine import machine_lines
from tests.gateway.test_fuzz import fuzz

PACKAGES = ("uvicorn", "httptools", "httpx2", "h11")
FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"
_A_RUN = 2_000
_PATIENCE = 900.0
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is by default": {},
    "what callers leave is finished": {"on_disconnect": "finish"},
    "answers last 20 ms, and stand in for failures": {"ttl": 0.02, "stale_if_error": 600},
    "stale answers while new ones are fetched": {"ttl": 0.02, "stale_while_revalidate": 600},
}


@dataclass(frozen=True)
class Run:
    """Hold what became of the cases of one seed; `problem` is empty if all was well."""

    seed: int
    setting: str
    hits: int
    seconds: float
    problem: str


def run(seed: int, cases: int) -> Run:
    # What is told there is told of answers that are broken on purpose.
    logging.disable(logging.CRITICAL)
    setting = list(SETTINGS)[seed % len(SETTINGS)]
    began = time.perf_counter()
    hits, problem = 0, ""
    try:
        cache = {"store": "memory://", **SETTINGS[setting]}
        hits = asyncio.run(asyncio.wait_for(fuzz(seed, cases, cache=cache), _PATIENCE)).hits
    except Exception:
        problem = traceback.format_exc(limit=-3)[-4000:]
    return Run(seed, setting, hits, time.perf_counter() - began, problem)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1000, help="the first seed (1000)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the page is written")
    options = parser.parse_args(arguments)
    console = Console()
    seeds = range(options.seed, options.seed + -(-options.cases // _A_RUN))
    began = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        pending = [pool.submit(run, seed, min(_A_RUN, options.cases)) for seed in seeds]
        done = concurrent.futures.as_completed(pending)
        runs = [one.result() for one in track(done, "fuzzing …", len(pending), console=console)]
    cases = sum(min(_A_RUN, options.cases) for _ in runs)
    lines = _lines(runs, cases, time.perf_counter() - began, options.cases)
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    for one in runs:
        if one.problem:
            console.print(f"seed {one.seed}, {one.setting}:\n{one.problem}\n", markup=False)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "fuzz.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lines(runs: Sequence[Run], cases: int, seconds: float, told: int) -> list[str]:
    failed = [one for one in runs if one.problem]
    verdict = f"{cases:,} cases of {len(runs)} seeds; every answer was as it must be."
    if failed:
        seeds = ", ".join(str(one.seed) for one in sorted(failed, key=lambda one: one.seed))
        verdict = f"{len(failed)} of {len(runs)} seeds found a fault: {seeds}."
    rows = []
    for setting in SETTINGS:
        of = [one for one in runs if one.setting == setting]
        each = cases // len(runs)
        bad = sum(bool(one.problem) for one in of)
        hits = sum(one.hits for one in of)
        rows.append(f"| {setting} | {len(of) * each:,} | {hits:,} | {bad} |")
    return [
        "# A fuzz of the gateway",
        "",
        *(__doc__ or "").strip().splitlines(),
        "",
        "This page is written by the command below; run it to try others with `--seed`.",
        "",
        "```",
        "scripts/bench fuzz" + ("" if told == 100_000 else f" --cases {told}"),
        "```",
        "",
        *(f"- {line}" for line in machine_lines(PACKAGES)),
        "",
        verdict,
        "",
        f"It took {seconds / 60:.1f} minutes.",
        "",
        "| configuration | cases | answers from the cache | seeds that found a fault |",
        "|---|--:|--:|--:|",
        *rows,
    ]
