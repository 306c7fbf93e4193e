"""A provider over real sockets that sends exactly the bytes a test wants, when it wants."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """Hold one request as it came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    """The number of the connection that it came on."""
    port: int = 0
    """The port of whoever asks."""

    def header(self, name: str) -> str | None:
        found = [value for given, value in self.headers if given.lower() == name]
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.body)


class Hang:
    """Send nothing more, and keep the connection open."""


class Close:
    """Close the connection."""


class Reset:
    """Close the connection as a crashed server does."""


Piece = bytes | type[Hang] | type[Close] | type[Reset]
Answer = Iterable[Piece]


class Server:
    """Answer each request with the pieces that `answer` gives for it."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._connections = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.address = f"http://{self.host}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def count(self) -> int:
        return len(self.asked)

    def close(self) -> None:
        self.over.set()
        # Closing alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (_, port) = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(
                    target=self._serve, args=(connection, port), daemon=True
                ).start()

    def _serve(self, connection: socket.socket, port: int) -> None:
        with self._lock:
            self._connections += 1
            number = self._connections
            self._open.add(connection)
        with contextlib.suppress(OSError, EOFError), connection, connection.makefile("rb") as file:
            while True:
                asked = _read(file, number, port)
                with self._lock:
                    self.asked.append(asked)
                for piece in self.answer(asked):
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    elif piece is Hang:
                        self.over.wait()
                        return
                    elif piece is Close:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    else:
                        linger = struct.pack("ii", 1, 0)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        return


def _read(file: Any, number: int, port: int) -> Asked:
    line = file.readline()
    if not line:
        raise EOFError
    method, target, _ = line.decode("latin-1").split(" ")
    headers = []
    while (line := file.readline().decode("latin-1").rstrip("\r\n")):
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    named = {name.lower(): value for name, value in headers}
    body = b""
    if named.get("transfer-encoding") == "chunked":
        while size := int(_all_of(file.readline()), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    else:
        length = int(named.get("content-length", 0))
        body = _all_of(file.read(length), length)
    return Asked(method, target, headers, body, number, port)


def _all_of(content: bytes, length: int = 1) -> bytes:
    """Raise EOFError where less came: nobody answers half a request."""
    if len(content) < length:
        raise EOFError
    return content


@contextlib.contextmanager
def running(answer: Callable[[Asked], Answer]) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def head(status: int = 200, *headers: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def plain(
    body: bytes | dict, status: int = 200, *headers: tuple[str, str], kind="application/json"
) -> list[Piece]:
    """Answer with a body of known length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    of_body = (("Content-Type", kind), ("Content-Length", str(len(content))))
    return [head(status, *of_body, *headers), content]


def chunked(pieces: Iterable[bytes], *headers: tuple[str, str], kind="text/event-stream") -> Answer:
    """Answer with a stream of pieces, each sent as it comes."""
    yield head(200, ("Content-Type", kind), ("Transfer-Encoding", "chunked"), *headers)
    for piece in pieces:
        if isinstance(piece, bytes):
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
        else:
            yield piece
    yield b"0\r\n\r\n"


def until_closed(pieces: Iterable[bytes], *headers: tuple[str, str], kind="text/event-stream") -> Answer:
    """Answer with a body whose end is that of the connection."""
    yield head(200, ("Content-Type", kind), ("Connection", "close"), *headers)
    yield from pieces
    yield Close


def completion(text: str = "Hello", reason: str | None = "stop", **fields: Any) -> dict:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **fields,
    }


def chunk(delta: dict, reason: str | None = None, **fields: Any) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "m-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        **fields,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def events(*words: str, reason: str = "stop") -> list[bytes]:
    """Give the events of a streamed chat answer."""
    begin = chunk({"role": "assistant", "content": ""})
    return [begin, *(chunk({"content": word}) for word in words), chunk({}, reason), DONE]


def chat(asked: Asked) -> Answer:
    """Answer a chat request properly, streamed or not; the text counts the characters asked."""
    body = asked.json()
    if body.get("stream"):
        return chunked(events("Hel", "lo"))
    return plain(completion())


@dataclass
class Script:
    """Answer the first requests from a list and all others by a rule."""

    steps: list[Callable[[Asked], Answer]] = field(default_factory=list)
    rule: Callable[[Asked], Answer] = chat

    def __call__(self, asked: Asked) -> Answer:
        return (self.steps.pop(0) if self.steps else self.rule)(asked)
