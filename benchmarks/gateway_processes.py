"""The processes of the gateway's benchmarks: contenders, the provider, and the load generator.

Whoever serves has the second core of this machine to itself; the provider and the load generator
share the first.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.gateway.running import Running, gateway

ROOT = Path(__file__).parent.parent
LITELLM = ".cache/bench-litellm"
_CORES = sorted(os.sched_getaffinity(0))
SERVING, ASKING = set(_CORES[-1:]), set(_CORES[:1])


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Let processes that are started within the block run on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(url: str, content: bytes | None = None, timeout: float = 60, **headers: str) -> bytes:
    headers = {"content-type": "application/json", **headers}
    asked = urllib.request.Request(url, content, headers)
    with urllib.request.urlopen(asked, timeout=timeout) as answer:
        return answer.read()


def serve(
    stack: ExitStack, *command: str, cores: set[int], path: str = "/", **environment: str
) -> str:
    """Run a server until the stack is closed; `PORT` in its command is its port."""
    port = free_port()
    with on(cores):
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NO_PROXY": "*", **environment},
        )
    stack.callback(_end, process)
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 120
    while True:
        try:
            fetch(address + path)
            return address
        except urllib.error.HTTPError:
            return address
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command} does not serve") from None
            time.sleep(0.1)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Provider:
    """Run the provider, and tell how often it was asked."""

    def __init__(self, stack: ExitStack, *, cores: set[int] = ASKING, **environment: str) -> None:
        self.address = serve(
            stack,
            *(sys.executable, "-m", "benchmarks.gateway_upstream", "PORT"),
            cores=cores,
            path="/counts",
            **environment,
        )

    def set(self, **settings: object) -> None:
        fetch(f"{self.address}/settings", json.dumps(settings).encode())

    @property
    def counts(self) -> Mapping[str, int]:
        found: Mapping[str, int] = json.loads(fetch(f"{self.address}/counts"))
        return found

    @property
    def requests(self) -> int:
        return self.counts.get("requests", 0)


def askonce(stack: ExitStack, folder: Path, upstream: str, **more: str) -> Running:
    """Run the gateway with one worker; see `configured`."""
    with on(SERVING):
        return stack.enter_context(gateway(configured(folder, upstream, **more)))


def configured(folder: Path, upstream: str, *, store: str = "", more: str = "") -> Path:
    """Write a configuration, over SQLite unless told otherwise, with further sections."""
    folder.mkdir(exist_ok=True)
    path = folder / "askonce.toml"
    path.write_text(
        f"""
access_log = false

[cache]
store = "{store or f"sqlite:///{folder}/gateway.db"}"

[[upstreams]]
name = "fake"
base_url = "{upstream}/v1"
paths = ["/v1/*"]
check = "/v1/models"
{more}
"""
    )
    return path


def litellm(stack: ExitStack, folder: Path, upstream: str, *options: str) -> str:
    """Run LiteLLM's proxy with its in-process cache, as it is told to be run in production."""
    subprocess.run(
        ["bash", "scripts/_environment", LITELLM, "litellm[proxy]"], cwd=ROOT, check=True
    )
    config = folder / "litellm.yaml"
    config.write_text(
        f"""
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "{upstream}/v1", api_key: sk-load}}
litellm_settings:
  cache: true
  cache_params: {{type: local}}
  set_verbose: false
  request_timeout: 600
"""
    )
    program = str(ROOT / LITELLM / "bin" / "litellm")
    return serve(
        stack,
        *(program, "--config", str(config), "--host", "127.0.0.1", "--port", "PORT"),
        *("--num_workers", "1", "--telemetry", "False", *options),
        cores=SERVING,
        path="/health/liveliness",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_LOG="ERROR",
        LITELLM_MODE="PRODUCTION",
        # Without a key it has less to check, and refuses to start unless told so.
        LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true",
        PYTHONPATH="",
    )


def hello(folder: Path, running: Running, content: bytes) -> Path:
    """Write down what the bare application says: what the gateway answers on a hit."""
    asked = urllib.request.Request(
        f"{running.address}/v1/chat/completions",
        content,
        {"authorization": "Bearer sk-load", "content-type": "application/json"},
    )
    headers: dict[str, str] = {}
    # The first answer is kept only when it has come to its end.
    while headers.get("cache-status") != "askonce; hit":
        with urllib.request.urlopen(asked, timeout=60) as answer:
            headers = dict(answer.headers)
            body = answer.read().decode()
    # uvicorn writes these by itself.
    own = {"date", "connection", "transfer-encoding"}
    kept = [(name, value) for name, value in headers.items() if name not in own]
    is_stream = headers["content-type"].startswith("text/event-stream")
    chunks = [f"{event}\n\n" for event in body.split("\n\n")[:-1]] if is_stream else [body]
    path = folder / ("hello-stream.json" if is_stream else "hello.json")
    path.write_text(json.dumps({"headers": kept, "chunks": chunks}))
    return path


class Load:
    """Run the load generator, and have it carry out tasks."""

    def __init__(self, stack: ExitStack) -> None:
        with on(ASKING):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gateway_load"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        stack.callback(self._end)

    def begin(self, task: str, **told: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, **told}) + "\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline())
        if "wrong" in found:
            raise AssertionError(found["wrong"])
        return found["result"]

    def do(self, task: str, **told: object) -> Any:
        self.begin(task, **told)
        return self.result()

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def resident(pid: int) -> int:
    """Give the resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory")
