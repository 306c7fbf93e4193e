"""A part of the demo in a process of its own, to show that nothing lives in memory alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def new_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of the demo in a new process and read the JSON that it writes last."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the new process failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
