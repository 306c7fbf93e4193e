"""A gateway as users run it: a process of its own, on a free port."""

import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STARTED = re.compile(r"askonce serves (https?://\S+:\d+)/v1 for")


@dataclass
class Running:
    """Hold a gateway that is serving; `log` is what it wrote to stderr."""

    process: subprocess.Popen[str]
    address: str
    log: list[str] = field(default_factory=list)
    trusted: ssl.SSLContext | None = None

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """End it as systemd does, and give its exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                self.address + path, timeout=30, context=self.trusted
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def gateway(
    config: Path, *options: str, trusted: ssl.SSLContext | None = None, **environment: str
) -> Iterator[Running]:
    """Run `askonce serve --config CONFIG` on a free port until the block ends."""
    command = [sys.executable, "-m", "askonce.cli", "serve", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "*", **environment},
    )
    log: list[str] = []
    found: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            if started := STARTED.match(line):
                found.append(started[1])
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(60) and found, "".join(log)
        running = Running(process, found[0], log, trusted)
        # The port is open before the workers are up: whoever connects meanwhile waits.
        assert running.get("/healthz")[0] == 200, "".join(log)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(10)
        if process.stderr is not None:
            process.stderr.close()


def configured(folder: Path, upstream: str, more: str = "", *, store: str = "") -> Path:
    """Write a configuration with one upstream, which is called `fake`, for all of /v1."""
    where = store or f"sqlite:///{folder}/gateway.db"
    path = folder / "askonce.toml"
    path.write_text(
        f"""
[cache]
store = "{where}"

[[upstreams]]
name = "fake"
base_url = "{upstream}/v1"
paths = ["/v1/*"]
{more}
"""
    )
    return path
