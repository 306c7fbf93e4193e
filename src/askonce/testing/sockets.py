"""A guard that lets no socket connect to another machine or program over the network."""

import contextlib
import socket
from collections.abc import Generator
from typing import Any, NoReturn

import pytest


@contextlib.contextmanager
def forbidden() -> Generator[None]:
    """Fail whoever connects a network socket inside the block; local (Unix) sockets may."""
    allowed = getattr(socket, "AF_UNIX", None)
    names = ("connect", "connect_ex")
    real = {name: getattr(socket.socket, name) for name in names}

    def guard(name: str) -> Any:
        def connect(this: socket.socket, address: Any) -> Any:
            if this.family != allowed:
                _fail(address)
            return real[name](this, address)

        return connect

    def resolve(host: Any, *_: Any, **__: Any) -> NoReturn:
        _fail(host)

    real_resolve = socket.getaddrinfo
    for name in names:
        setattr(socket.socket, name, guard(name))
    socket.getaddrinfo = resolve
    try:
        yield
    finally:
        socket.getaddrinfo = real_resolve
        for name in names:
            setattr(socket.socket, name, real[name])


def _fail(address: object) -> NoReturn:
    pytest.fail(
        f"askonce: something connects to {address!r}, and --askonce-no-network forbids it",
        pytrace=False,
    )
