"""Serving the gateway: one process, or several workers that share one socket and one store."""

import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from askonce.errors import InputError
from askonce.gateway.config import Config, Server, load
from askonce.gateway.protocol import BoundedProtocol

_TOLD: Final = "ASKONCE_SERVE"
"""Carries what the command line told to the workers, which are processes of their own."""

_MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_PREFIX: Final = "askonce-metrics-"

Overrides = Mapping[str, Mapping[str, Any]]


class _Workers(Multiprocess):
    def handle_hup(self) -> None:
        """Let each worker read its configuration anew, without ending it."""
        for worker in self.processes:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        before = {worker.pid for worker in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {worker.pid for worker in self.processes}:
            if pid is not None:
                _forget(pid)


def _forget(pid: int) -> None:
    """Tell the metrics that a worker is no more."""
    from askonce.observe.prometheus import process_ended  # noqa: PLC0415  after the environment

    process_ended(pid)


def serve(path: Path | None, overrides: Overrides) -> int:
    """Serve until SIGINT or SIGTERM, and tell the exit code.

    Requests under way are finished first. Raises InputError for a configuration that cannot be
    used, and OSError for an address that is taken.
    """
    config = load(path, overrides)
    server = config.server
    os.environ[_TOLD] = json.dumps(
        {"path": str(path.absolute()) if path else None, "overrides": overrides}
    )
    settings = _settings(server)
    listening = _listen(server)
    _announce(config, listening)
    if server.workers > 1:
        with tempfile.TemporaryDirectory(prefix=_METRICS_PREFIX) as folder:
            os.environ[_MULTIPROCESS] = folder
            _Workers(settings, sockets=[listening]).run()
        return 0
    running = uvicorn.Server(settings)
    # A signal ends the process in here, once requests have ended.
    running.run(sockets=[listening])
    return 0 if running.started else 1


def application() -> Any:
    """Make the application of one process from what the command line told."""
    from askonce.gateway.app import Gateway  # noqa: PLC0415  only workers need it

    told = json.loads(os.environ[_TOLD])
    path = Path(told["path"]) if told["path"] else None

    def read() -> Config:
        return load(path, told["overrides"])

    BoundedProtocol.limits = read().server
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("askonce.gateway").setLevel(logging.INFO)
    return Gateway(read)


def _settings(server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        "askonce.gateway.serving:application",
        factory=True,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        workers=server.workers,
        access_log=False,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(server.idle_timeout),
        timeout_graceful_shutdown=int(server.shutdown_timeout),
        limit_concurrency=server.max_connections,
        ssl_certfile=server.tls_certificate,
        ssl_keyfile=server.tls_key,
    )


def _listen(server: Server) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listening = socket.socket(family)
    try:
        if os.name != "nt":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((server.host, server.port))
        # Between workers that restart, connections wait here.
        listening.listen(2048)
        listening.set_inheritable(True)
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror or error}; "
            "choose another port with --port, or stop what listens there"
        ) from None
    return listening


def _announce(config: Config, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if config.server.tls_certificate else "http"
    names = ", ".join(f"{one.name} ({one.base_url})" for one in config.upstreams)
    sys.stderr.write(f"askonce serves {scheme}://{shown}:{port}/v1 for {names}\n")
    sys.stderr.flush()
