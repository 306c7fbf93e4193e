"""The example suite, replayed with the network closed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "replayed_tests"
UNSHARE = [shutil.which("unshare") or "unshare", "--map-root-user", "--net"]


def closed():
    """Give what runs a command without a network, where the system lets us."""
    try:
        return UNSHARE if not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode else []
    except OSError:
        return []


def test_fifty_tests_replay_without_a_network():
    before = {file: file.stat().st_mtime_ns for file in FOLDER.rglob("cassettes/*/*")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [
            *closed(),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--askonce=replay", "--askonce-no-network"),
        ],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 passed" in done.stdout
    assert "0 recorded" in done.stdout
    assert "unused" not in done.stdout
    assert before == {file: file.stat().st_mtime_ns for file in FOLDER.rglob("cassettes/*/*")}


def test_no_example_holds_a_secret():
    for file in FOLDER.rglob("cassettes/*/*"):
        text = file.read_text().lower()
        for word in ("authorization", "api-key", "cookie", "organization", "bearer"):
            assert word not in text, file
