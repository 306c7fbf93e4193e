"""What stands before a Postgres server and gives each transaction another of its connections."""

import contextlib
import itertools
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

_NO_ENCRYPTION = {80877103, 80877104}  # the codes that ask for TLS and for GSSAPI


class Turnstile:
    """Pool transactions at its strictest: one after the other comes to another session.

    Whatever a session was to remember is not there when the next transaction begins.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError, EOFError))
            stack.enter_context(client)
            while True:
                (length,) = struct.unpack(">i", _exactly(client, 4))
                startup = _exactly(client, length - 4)
                if struct.unpack(">i", startup[:4])[0] not in _NO_ENCRYPTION:
                    break
                client.sendall(b"N")
            sessions = [
                stack.enter_context(socket.create_connection(("127.0.0.1", self._server.port)))
                for _ in range(3)
            ]
            for session in sessions:
                session.sendall(struct.pack(">i", length) + startup)
                greeting = b"".join(_until_ready(session))
            client.sendall(greeting)
            turns = itertools.cycle(sessions)
            session = next(turns)
            while True:
                kind, asked = b"", b""
                while kind not in {b"S", b"Q"}:
                    kind, message = _message(client)
                    asked += message
                session.sendall(asked)
                answer = b"".join(_until_ready(session))
                client.sendall(answer)
                if answer.endswith(b"I"):
                    session = next(turns)


def _exactly(source: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = source.recv(length - len(received))
        if not part:
            raise EOFError
        received += part
    return bytes(received)


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack(">i", head[1:])[0] - 4)


def _until_ready(session: socket.socket) -> Iterator[bytes]:
    kind = b""
    while kind != b"Z":
        kind, message = _message(session)
        yield message


@contextlib.contextmanager
def turnstile(server: PostgresServer) -> Iterator[int]:
    """Give the port of a turnstile before a server."""
    pooler = Turnstile(server)
    try:
        yield pooler.port
    finally:
        pooler.close()


@contextlib.contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[int]:
    """Give the port of a PgBouncer, in transaction mode with two connections, before a server."""
    port = free_port()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "ini").write_text(f"""
[databases]
postgres = host=127.0.0.1 port={server.port} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
""")
    as_nobody = server.process_user
    for path in (folder, folder / "users", folder / "ini"):
        if as_nobody:
            shutil.chown(path, **as_nobody)
    process = subprocess.Popen(
        [PGBOUNCER, folder / "ini"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        **as_nobody,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

POOLERS = {"turnstile": turnstile} | ({"pgbouncer": pgbouncer} if PGBOUNCER else {})
"""PgBouncer itself where it is found: no wheel has it."""


@pytest.fixture(scope="session", params=POOLERS)
def pooler(request, postgres: PostgresServer) -> Iterator[int]:
    """Give the port of each pooler."""
    with POOLERS[request.param](postgres) as port:
        yield port
