"""Run a part of a test in a process of its own, and fork there without the threads of pytest."""

import os
import pathlib
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).parent.parent
# Threads of numpy's own would make every fork a suspect one.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_CALL = "import importlib, sys; getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])"


def alone(
    function: Callable[..., None],
    *arguments: object,
    prefix: Sequence[str] = (),
    timeout: int = 240,
) -> str:
    """Call a function of a test module, with strings, in a new interpreter; give what it prints."""
    command = [
        *prefix,
        *(sys.executable, "-W", "ignore::DeprecationWarning", "-c", _CALL),
        *(function.__module__, function.__name__, *map(str, arguments)),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        timeout=timeout,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def fork(work: Callable[[], None], *, within: int = 60) -> int:
    """Do work in a forked process, which ends with 0 if it went well; give its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(within)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def join(*children: int) -> None:
    """Wait for forked processes, all of which must have ended well."""
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(codes), codes


class Gate:
    """Hold any number of processes until it is opened."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def wait(self) -> None:
        os.close(self._writer)
        os.read(self._reader, 1)

    def open(self) -> None:
        os.close(self._writer)
        os.close(self._reader)
