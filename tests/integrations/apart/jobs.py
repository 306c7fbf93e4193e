"""The examples of bulk jobs, run as they are, over one Redis."""

import contextlib
import os
import io
import pathlib
import random
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers.redis import PROGRAMS, RedisServer

ROOT = pathlib.Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
GUIDE = ROOT / "docs" / "how-to" / "embed-with-ray.md"
TEXTS = [f"text number {number}" for number in range(2000)]
LINES = TEXTS + TEXTS[:400]
BATCH = 50


def shuffled(seed: int) -> list[str]:
    return random.Random(seed).sample(LINES, len(LINES))


@contextlib.contextmanager
def example(
    name: str, lines: list[str], folder: pathlib.Path, *, environment=(), **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an example on these lines, until it is over; what it prints goes to `printed`."""
    folder.mkdir()
    (folder / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    command = [sys.executable, EXAMPLES / name, folder / "lines.txt", "--out", folder / "out"]
    for option, value in options.items():
        command += [f"--{option.replace('_', '-')}", str(value)]
    with (folder / "printed").open("w") as printed:
        job = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | dict(environment),
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
    try:
        yield job
        assert job.wait(240) == 0, (folder / "printed").read_text()
    finally:
        job.kill()
        job.wait()


@pytest.fixture(scope="module")
def redis_server():
    server = RedisServer(PROGRAMS["redis8"])
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def store(redis_server):
    """Give the URL of an empty store; a busy machine is no failure of it."""
    redis_server.flush()
    return redis_server.url("?lookup_timeout=30&timeout=60")


def run_section(heading: str, folder: str) -> None:
    """Run the `py` block of a section of the guide, which prints what its `text` block says."""
    os.chdir(folder)
    section = GUIDE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    ((code, expected),) = re.findall(r"^```py\n(.*?)^```\n+```text\n(.*?)^```$", section, re.M | re.S)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(GUIDE), "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == expected, printed.getvalue()
