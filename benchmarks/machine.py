"""What a benchmark ran on, without naming the host."""

import os
import platform
import sqlite3
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def machine_lines(packages: Sequence[str]) -> list[str]:
    """Describe processor, system, Python and the packages that matter, one line each."""
    return [
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}",
        ", ".join(f"{name} {version(name)}" for name in ("askonce", *packages)),
        f"load average {os.getloadavg()[1]:.1f} over the last five minutes, this benchmark's own too",
    ]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
