"""Both drivers of flows, and a store that is broken."""

import asyncio

import pytest

from askonce import Store
from askonce.core import colours, flow
from askonce.stores.memory import MemoryStore


class Broken(Store):
    """Fail at everything."""

    def __init__(self, error):
        self.error = error

    def read(self, keys):
        raise self.error

    def write(self, entries, *, expires=float("inf")):
        raise self.error

    def delete(self, keys):
        raise self.error

    def keys(self, prefix=""):
        raise self.error

    def close(self):
        pass


def drive_blocking(steps, store, call, observe):
    return flow.run(steps, store=store, call=colours.blocking(call), observe=observe)


def drive_async(steps, store, call, observe):
    return asyncio.run(flow.arun(steps, store=store, call=colours.awaitable(call), observe=observe))


@pytest.fixture(params=[drive_blocking, drive_async])
def drive(request):
    def driven(steps, store=None, call=None, observe=lambda event: None):
        return request.param(steps, store or MemoryStore(), call, observe)

    return driven
