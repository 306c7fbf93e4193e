"""Another process at the same SQLite file, which does what it is told and says when it is done."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

from askonce.stores.sqlite import SQLiteStore
from tests.alone import ROOT


class Another:
    """Tell the process what to do, and wait until it is done."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, *told: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(told), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n", told


@contextlib.contextmanager
def another(path: object) -> Iterator[Another]:
    command = "import sys; from tests.stores.another import serve; serve(sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(path)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        yield Another(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def serve(path: str) -> None:
    with SQLiteStore(path) as store:
        for line in sys.stdin:
            do(store, *json.loads(line))
            print("done", flush=True)


def do(store: SQLiteStore, verb: str, *arguments: str) -> None:
    match verb, arguments:
        case "write", (key, content):
            store.write({key: bytes.fromhex(content)})
        case "expire", (key,):
            store.write({key: b"old"}, expires=1.0)
        case "delete", (key,):
            store.delete([key])
        case "forget", ():
            store.delete([key for key in store.keys() if not key.startswith("~")])
        case "prune", ():
            assert store.prune(time.time())
        case "vacuum", ():
            store.vacuum()
        case "begin anew", ():
            with contextlib.closing(sqlite3.connect(store.path, timeout=30)) as connection:
                connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        case "claim", (key,):
            assert store.leases.claim([key]) == [key]
            store.leases.release([key])
        case _:
            raise ValueError(verb)
