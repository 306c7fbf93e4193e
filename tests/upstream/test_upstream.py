"""LangChain's own tests of what we replace, run against our classes.

What must fail is listed, with its reason, in docs/explanation/upstream-tests.md; anything else
that fails is an error here, and so is a listed test that passes.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.upstream.sdists import unpacked
from tests.upstream.suites import SUITES

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "explanation" / "upstream-tests.md"
ROW = re.compile(r"^\| (?P<distribution>[a-z-]+) \| `(?P<test>[^`]+::[^`]+)` \| .+ \|$", re.M)


def listed_failures(distribution: str) -> set[str]:
    """Read from the page which tests must fail."""
    return {
        row["test"]
        for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))
        if row["distribution"] == distribution
    }


def run(distribution: str, folder: Path) -> dict:
    """Run a distribution's tests in a process of its own and give the plugin's report."""
    report = folder / "report.json"
    empty = folder / "pytest.ini"
    empty.write_text("[pytest]\nasyncio_mode = auto\n")
    settings = {"files": SUITES[distribution], "report": str(report)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"]
    command += ["-p", "askonce_shim", "-c", str(empty), "--rootdir=.", *SUITES[distribution]]
    done = subprocess.run(
        command,
        cwd=unpacked(distribution),
        env=os.environ | {"PYTHONPATH": str(HERE), "ASKONCE_SHIM": json.dumps(settings)},
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert done.returncode in (0, 1), output
    return json.loads(report.read_text()) | {"output": output}


@pytest.mark.parametrize("distribution", SUITES)
def test_upstream(distribution: str, tmp_path: Path) -> None:
    report = run(distribution, tmp_path)

    for file, replacements in SUITES[distribution].items():
        for target in replacements.values():
            assert report["calls"].get(f"{file} {target}"), f"{file} never called {target}"
    failed = {
        test for test, outcome in report["outcomes"].items() if outcome not in ("passed", "xfailed")
    }
    listed = listed_failures(distribution)
    unexpected = {test: report["reasons"][test] for test in failed - listed}
    assert not unexpected, f"{unexpected}\n{report['output']}"
    assert listed == failed, "these are listed as failing in the page, but pass or are gone"


def test_every_listed_failure_is_of_a_suite() -> None:
    rows = list(ROW.finditer(PAGE.read_text(encoding="utf-8")))
    assert {row["distribution"] for row in rows} <= set(SUITES)
