"""Fixtures: two hosts with near stores of their own over one far store."""

import asyncio

import pytest

from askonce.stores.sender import Sender
from askonce.stores.sqlite import SQLiteStore
from tests.stores.hosts import Clock, Host


@pytest.fixture
def by_hand(monkeypatch):
    """Nothing is sent in the background."""
    monkeypatch.setattr(Sender, "wake", lambda self: None)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def far(tmp_path):
    return tmp_path / "far.db"


@pytest.fixture
def hosts(by_hand, far, clock, tmp_path):
    """A host with its near store on disk and one with it in memory."""
    two = [Host(far, clock, SQLiteStore(tmp_path / "near.db")), Host(far, clock)]
    yield two
    for host in two:
        host.link.come_back()
        host.close()


@pytest.fixture
def host(hosts):
    return hosts[0]


@pytest.fixture(params=["sync", "async"])
def use(request):
    """Use a verb in one colour."""

    def used(store, verb, *arguments):
        if request.param == "sync":
            return getattr(store, verb)(*arguments)
        return asyncio.run(getattr(store, "a" + verb)(*arguments))

    return used
