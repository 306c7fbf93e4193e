import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alone import alone
from tests.servers.s3 import s3
from tests.stores import disks

__all__ = ["s3"]


@pytest.fixture
def fill_disk(tmp_path) -> Iterator:
    """Give a function that fills a small disk with the store at `url.format(disk)`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    ballast = disk / "ballast"
    if mounted:
        ballast.write_bytes(bytes(1_000_000))

    def fill(url: str) -> str:
        return alone(disks.fill, url.format(disk), ballast if mounted else "")

    yield fill
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def forbid_writing(tmp_path) -> Iterator:
    """Give a function that opens stores of which nothing may be written, and what it printed."""
    folder = tmp_path / "forbidden"

    def forbid(url: str, existing: str) -> str:
        for path in [*folder.rglob("*"), folder]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        prefix = disks.WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else ()
        return alone(
            disks.may_not_write, url.format(folder), existing.format(folder), prefix=prefix
        )

    folder.mkdir()
    yield forbid
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700)
