"""Bytes over a socket, as no decent client would send them."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PATIENCE = 30.0
"""Seconds after which a server counts as hanging."""


@dataclass
class Head:
    """Hold one answer: its status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Talk:
    """Hold a connection to a gateway; `heard` is all that has come."""

    connection: socket.socket
    heard: bytes = b""
    is_over: bool = False
    answers: list[Head] = field(default_factory=list)

    def say(self, content: bytes) -> None:
        """Send; a server that has closed meanwhile has answered before."""
        with contextlib.suppress(ConnectionError):
            self.connection.sendall(content)

    def finish(self) -> None:
        """Say that nothing more comes; a server that has closed meanwhile knows."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def more(self) -> bytes:
        """Wait for the next bytes, none at the end; raises TimeoutError where nothing comes."""
        try:
            piece = self.connection.recv(1 << 16)
        except ConnectionError:
            piece = b""
        self.heard += piece
        self.is_over = self.is_over or not piece
        return piece

    def pause(self) -> None:
        """Let the other side read what was said so far by itself; what it answers is kept."""
        patience = self.connection.gettimeout()
        self.connection.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            self.more()
        self.connection.settimeout(patience)

    def until_closed(self) -> bytes:
        """Read to the end."""
        while self.more():
            pass
        return self.heard

    def answer(self) -> Head | None:
        """Read one answer; None if the connection is closed instead."""
        while b"\r\n\r\n" not in self.heard:
            if not self.more():
                return None
        head, _, rest = self.heard.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.heard = rest
        found = Head(status, headers)
        if 100 <= status < 200:
            return found
        if headers.get("transfer-encoding") == "chunked":
            found.body = self._chunks()
        else:
            length = int(headers.get("content-length", 0))
            while len(self.heard) < length and self.more():
                pass
            found.body, self.heard = self.heard[:length], self.heard[length:]
        return found

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self.heard:
                if not self.more():
                    return body
            size, _, self.heard = self.heard.partition(b"\r\n")
            length = int(size, 16)
            while len(self.heard) < length + 2:
                if not self.more():
                    return body
            body += self.heard[:length]
            self.heard = self.heard[length + 2 :]
            if not length:
                return body


@contextlib.contextmanager
def talk(address: str, first: bytes = b"", *, patience: float = PATIENCE) -> Iterator[Talk]:
    """Open a connection to a gateway and send something."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        opened = Talk(connection)
        if first:
            opened.say(first)
        yield opened


def drip(opened: Talk, piece: bytes, *, every: float = 0.1, most: float = PATIENCE) -> float:
    """Send a piece again and again until the other side closes; give the seconds it took."""
    began = time.monotonic()
    opened.connection.settimeout(every)
    while not opened.is_over:
        assert time.monotonic() - began < most, "it would have gone on for ever"
        try:
            opened.connection.sendall(piece)
            opened.more()
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - began
