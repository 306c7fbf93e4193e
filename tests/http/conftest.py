"""Fixtures: a provider on a real socket, and clients of both libraries in both colours."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.http import server as servers
from tests.http.askers import CHAT, KINDS, Asker, make


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    """Name a library and a colour."""
    return request.param


@pytest.fixture
def maker() -> Iterator[Callable[..., Asker]]:
    """Make askers that are closed in the end."""
    with contextlib.ExitStack() as stack:

        def made(*arguments: Any, **rules: Any) -> Asker:
            asker = make(*arguments, **rules)
            stack.callback(asker.close)
            return asker

        yield made


@pytest.fixture
def asker(kind, maker) -> Asker:
    """Ask through a cache in memory."""
    return maker(kind, "memory://")


@pytest.fixture
def provider() -> Iterator[servers.Server]:
    """Run a provider that answers properly until it is told to do otherwise."""
    with servers.running(servers.chat) as server:
        yield server


@pytest.fixture
def url(provider) -> str:
    return provider.address + CHAT
