"""Run a benchmark by name, show its table, and write its page and chart."""

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.frame import run
from benchmarks.machine import machine_lines

NAMES = "bulk chat codecs copy embeddings faults gateway growth langchain stores".split()
PROGRAMS = ("fuzz", "soak")
"""These have no contests, and options of their own."""

FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, *PROGRAMS])
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds a contest (15)")
    parser.add_argument(
        "--only", default="", help="run contests whose title has this; save nothing"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the page is written")
    options = parser.parse_args()

    console = Console(width=None if sys.stdout.isatty() else 140)
    bench = importlib.import_module(f"benchmarks.{options.name}")
    results = []
    with console.status("measuring …") as status:
        for contest in bench.contests():
            if options.only in contest.title:
                status.update(contest.title)
                results += run(contest, rounds=options.rounds)
    if not results:
        parser.error(f"no contest's title has {options.only!r} in it")
    machine = machine_lines(bench.PACKAGES)
    report.show(console, results, machine)
    if not options.only:
        command = f"scripts/bench {options.name}"
        if options.rounds != parser.get_default("rounds"):
            command += f" --rounds {options.rounds}"
        options.folder.mkdir(parents=True, exist_ok=True)
        report.write(options.folder, bench, results, machine, command=command)


if __name__ == "__main__":
    main()
