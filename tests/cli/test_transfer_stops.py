"""copy, export and import, stopped or killed, and begun again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from askonce import transfer
from tests.cli.transfers import PLACES, content, fill

ROOT = Path(__file__).parents[2]


def test_control_c(askonce, monkeypatch):
    def interrupt(self, pairs):
        raise KeyboardInterrupt

    fill("sqlite:///src.db")
    monkeypatch.setattr(transfer.Transfer, "put", interrupt)
    result = askonce("copy", "sqlite:///src.db", "sqlite:///dst.db")
    assert (result.code, result.out) == (130, "copied 0\n")
    assert "run the command again to go on" in result.err


SLOW = """
import os, signal, sys
from askonce import transfer
from askonce.cli import main
transfer._MOST = transfer._FIRST = 50
put, left = transfer.Transfer.put, [int(sys.argv[1])]
def slow(self, pairs):
    put(self, pairs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
transfer.Transfer.put = slow
sys.exit(main(sys.argv[2:]))
"""


def killed(batches, *command):
    done = subprocess.run(
        [sys.executable, "-c", SLOW, str(batches), *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize("dst", PLACES)
def test_killed_again_and_again_it_goes_on(askonce, dst):
    fill("sqlite:///src.db")
    dst = dst.format("dst")
    for batches in (1, 3):
        killed(batches, "copy", "sqlite:///src.db", dst)
    assert 150 <= len(content(dst)) < 292
    result = askonce("copy", "sqlite:///src.db", dst)
    assert result.out == f"copied {292 - 150}, already there 150\n"
    assert content(dst) == content("sqlite:///src.db")


def test_a_killed_import_goes_on(askonce):
    fill("sqlite:///src.db")
    assert askonce("export", "sqlite:///src.db", "x.parquet").code == 0
    killed(1, "import", "x.parquet", "sqlite:///dst.db")
    assert askonce("import", "x.parquet", "sqlite:///dst.db").code == 0
    assert content("sqlite:///dst.db") == content("sqlite:///src.db")


KILLED_EXPORT = """
import os, signal, sys
from askonce import archive
from askonce.cli import main
archive._GROUP_ROWS = 100
add, left = archive._Writer.add, [250]
def count(self, key, value):
    add(self, key, value)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
archive._Writer.add = count
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_export_leaves_no_file(askonce, tmp_path):
    fill("sqlite:///src.db")
    command = [sys.executable, "-c", KILLED_EXPORT, "export", "sqlite:///src.db", "x.parquet"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=env, timeout=60).returncode == -9
    assert not Path("x.parquet").exists()
    (left,) = tmp_path.glob(".x.parquet.*.part")
    assert askonce("export", "sqlite:///src.db", "x.parquet").code == 0
    assert left.exists()  # its writer might be alive
    os.utime(left, (1.0, 1.0))
    assert askonce("export", "sqlite:///src.db", "x.parquet", "--overwrite").code == 0
    assert not left.exists()
