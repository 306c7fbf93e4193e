"""A Redis, of one server or many, as a store and its leases ask it: in both colours."""

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import redis
import redis.asyncio

from askonce.core import fork
from askonce.errors import StoreError
from askonce.stores.redis_address import Address, Node
from askonce.stores.redis_errors import explain
from askonce.stores.redis_links import TROUBLE, Links
from askonce.stores.redis_loops import LoopLinks, close_now, close_with_the_loop
from askonce.stores.redis_topology import Flow, topology_of

T = TypeVar("T")

_READ_SIZE = 2**18
"""In bytes. Batches of vectors come a third faster than with redis-py's own 32 KiB."""


class _Process(NamedTuple):
    """Hold the connections of one process: a forked child has its own."""

    number: int
    lookup: Links
    work: Links


class RedisServer:
    """Carry out flows, through connections that are made when they are first wanted.

    A look-up fails when the server is silent for `lookup_timeout` seconds, all else after
    `timeout`.
    """

    def __init__(self, address: Address, *, lookup_timeout: float, timeout: float) -> None:
        self.address = address
        self.topology = topology_of(address)
        self._lookup_timeout = lookup_timeout
        self._timeout = timeout
        self._closed = False
        self._process = self._begin()
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLinks]
        self._loops = weakref.WeakKeyDictionary()

    def run(self, flow: Flow[T], *, lookup: bool = False) -> T:
        """Carry out a flow in this thread. Raises StoreError."""
        try:
            parts = next(flow)
            while True:
                try:
                    answers = self._links(lookup=lookup).exchange(parts)
                except TROUBLE as error:
                    parts = flow.throw(error)
                else:
                    parts = flow.send(answers)
        except StopIteration as end:
            outcome: T = end.value
            return outcome
        except TROUBLE as error:
            raise explain(error, self.address.shown) from error

    async def arun(self, flow: Flow[T], *, lookup: bool = False) -> T:
        """Carry out a flow in this event loop. Raises StoreError."""
        seconds = self._lookup_timeout if lookup else self._timeout
        try:
            parts = next(flow)
            while True:
                try:
                    answers = await (await self._loop_links()).exchange(parts, seconds)
                except TROUBLE as error:
                    parts = flow.throw(error)
                else:
                    parts = flow.send(answers)
        except StopIteration as end:
            outcome: T = end.value
            return outcome
        except TROUBLE as error:
            raise explain(error, self.address.shown) from error

    def close(self) -> None:
        """Close all connections; those of an event loop when it runs next, or ends."""
        self._closed = True
        self._process.lookup.close()
        self._process.work.close()
        with self._lock:
            loops = dict(self._loops)
            self._loops.clear()
        for loop, links in loops.items():
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(close_now(links), loop)

    async def aclose(self) -> None:
        """Close without leaving anything open in this event loop."""
        with self._lock:
            links = self._loops.pop(asyncio.get_running_loop(), None)
        if links is not None:
            await close_now(links)
        self.close()

    def _links(self, *, lookup: bool) -> Links:
        self._check_open()
        if self._process.number != os.getpid():
            self._process = self._begin()
        return self._process.lookup if lookup else self._process.work

    async def _loop_links(self) -> LoopLinks:
        self._check_open()
        loop = asyncio.get_running_loop()
        with self._lock:
            links = self._loops.get(loop)
            if links is not None:
                return links
            links = self._loops[loop] = LoopLinks(self._make_for_loops, patience=self._timeout)
        await close_with_the_loop(links)
        return links

    def _begin(self) -> _Process:
        return _Process(
            os.getpid(),
            self._begin_links(self._lookup_timeout),
            self._begin_links(self._timeout),
        )

    def _begin_links(self, seconds: float) -> Links:
        patience = max(seconds, self._timeout)

        def make(node: Node) -> redis.Connection:
            kind = redis.Connection if self.address.tls is None else redis.SSLConnection
            return kind(**self._arguments(node, seconds, patience))

        return Links(make, seconds=seconds, patience=patience)

    def _make_for_loops(self, node: Node) -> redis.asyncio.Connection:
        tls = self.address.tls is not None
        kind = redis.asyncio.SSLConnection if tls else redis.asyncio.Connection
        return kind(**self._arguments(node, None, self._timeout))

    def _arguments(self, node: Node, silence: float | None, connect: float) -> Mapping[str, Any]:
        return {
            **self.address.arguments(node),
            "socket_timeout": silence,
            "socket_connect_timeout": connect,
            "socket_read_size": _READ_SIZE,
        }

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.address.shown}: the store is closed")
