"""What the workers of a gateway hold: memory, file descriptors, connections, tasks."""

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway_processes import resident

HOOK = '''
"""Tell on SIGUSR1 how many tasks there are; Python imports this by itself at the start."""
import asyncio, collections, json, os, pathlib, signal

def tell(*_):
    tasks = asyncio.all_tasks(asyncio.get_running_loop())
    names = collections.Counter(task.get_coro().__qualname__ for task in tasks)
    path = pathlib.Path(os.environ["SOAK"], f"{os.getpid()}.json")
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps(names))
    whole.replace(path)

signal.signal(signal.SIGUSR1, tell)
'''


@dataclass(frozen=True)
class Holding:
    """Hold what one worker held at a moment of rest.

    `connections` are told by whom they lead to; `tasks` by their coroutines.
    """

    descriptors: int
    connections: dict[str, int]
    tasks: dict[str, int]


def hook(folder: Path) -> dict[str, str]:
    """Write the hook; give the environment that a gateway needs for it."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK)
    return {"PYTHONPATH": str(folder), "SOAK": str(folder)}


def workers(parent: int) -> list[int]:
    """Give the processes of the workers, the oldest first."""
    found = []
    for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{number}/cmdline").read_bytes()
            started = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19])
            if command and b"resource_tracker" not in command:
                found.append((started, int(number)))
    return [pid for _, pid in sorted(found)]


def memory(parent: int) -> dict[int, int]:
    """Give the resident memory of each worker, in bytes."""
    found = {}
    for pid in workers(parent):
        with contextlib.suppress(OSError, RuntimeError):
            found[pid] = resident(pid)
    return found


def holding(pid: int, folder: Path, ports: dict[int, str]) -> Holding:
    """Tell what a worker holds now; `ports` are those of its neighbours."""
    path = folder / f"{pid}.json"
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + 30
    while not path.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"worker {pid} does not tell of its tasks")
        time.sleep(0.01)
    targets = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            targets.append(os.readlink(descriptor))
    neighbours = _neighbours(ports)
    found = [neighbours[target] for target in targets if target in neighbours]
    return Holding(
        len(targets),
        {name: found.count(name) for name in ports.values()},
        json.loads(path.read_text()),
    )


def _neighbours(ports: dict[int, str]) -> dict[str, str]:
    """Tell of each connection on this machine to whom it leads."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, *rest = line.split()
        for end in (remote, local):
            port = int(end.rpartition(":")[2], 16)
            # A socket that listens has no other end.
            if port in ports and not remote.endswith(":0000"):
                found[f"socket:[{rest[5]}]"] = ports[port]
                break
    return found
