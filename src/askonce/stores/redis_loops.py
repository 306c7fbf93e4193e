"""Connections to the servers of a Redis, lent to one task of an event loop at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as SilentError

from askonce.stores.redis_address import Node
from askonce.stores.redis_links import AT_ONCE, TROUBLE, pack
from askonce.stores.redis_topology import Answers, Parts

Make = Callable[[Node], Connection]

_LATE = 0.2
"""A timer that is late by this part of its time tells that the loop was busy, not the server."""

_keepers: dict[asyncio.AbstractEventLoop, dict["LoopLinks", AsyncGenerator[None]]] = {}
"""Held here, because a loop holds its asynchronous generators weakly."""


class LoopLinks:
    """Lend connections within the running event loop; they are closed as it ends.

    An exchange fails if nothing was heard on any connection for as long as it may wait, and
    after `patience` seconds in any case.
    """

    def __init__(self, make: Make, *, patience: float) -> None:
        self._make = make
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Node, list[Connection]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._coming: set[asyncio.Task[Connection]] = set()
        self._closed = False
        self.heard = 0.0

    async def exchange(self, parts: Parts, seconds: float) -> Answers:
        """Send commands to nodes and give their replies; errors of connections are raised."""
        try:
            async with asyncio.timeout(max(seconds, self._patience)) as limit:
                with Watch(self, limit, seconds):
                    async with self._room:
                        return await self._exchange(parts)
        except TimeoutError:
            raise SilentError(f"nothing was heard for {seconds:g} s") from None

    async def _exchange(self, parts: Parts) -> Answers:
        lent: dict[Node, Connection] = {}
        answers: dict[Node, list[Any]] = {}
        try:
            for node, commands in parts.items():
                link = lent[node] = await self._take(node)
                await link.send_packed_command(pack(link, commands), check_health=False)
            for node, link in lent.items():
                replies = answers[node] = []
                for _ in range(len(parts[node])):
                    replies.append(await _reply(link))
                    self.heard = self._loop.time()
        except BaseException:
            for link in lent.values():
                await link.disconnect(nowait=True)
            raise
        for node, link in lent.items():
            await self._keep(node, link)
        return answers

    async def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        for task in self._coming:
            task.cancel()
        idle = [link for links in self._idle.values() for link in links]
        self._idle.clear()
        await asyncio.gather(*(link.disconnect() for link in idle), return_exceptions=True)

    async def _take(self, node: Node) -> Connection:
        while True:
            link = await self._take_idle(node)
            if link is not None:
                return link
            if len(self._coming) < AT_ONCE:
                break
            await asyncio.wait(self._coming, return_when=asyncio.FIRST_COMPLETED)
        coming = self._loop.create_task(self._connect(node))
        self._coming.add(coming)
        coming.add_done_callback(self._coming.discard)
        try:
            return await asyncio.shield(coming)
        except asyncio.CancelledError:
            # To connect may take longer than a look-up may wait; who comes later finds it there.
            coming.add_done_callback(lambda done: self._keep_late(node, done))
            raise

    async def _take_idle(self, node: Node) -> Connection | None:
        idle = self._idle.setdefault(node, [])
        while idle:
            link = idle.pop()
            # It had another name before redis-py 8, where a task could be cancelled in it.
            can_read: Any = getattr(link, "can_read", None) or link.can_read_destructive
            usable = False
            try:
                usable = not await can_read()  # else it was closed at the other end
            except TROUBLE:
                pass
            finally:
                if not usable:
                    await link.disconnect(nowait=True)
            if usable:
                return link
        return None

    async def _connect(self, node: Node) -> Connection:
        link = self._make(node)
        try:
            async with asyncio.timeout(self._patience):
                await link.connect()
        except TimeoutError:
            await link.disconnect(nowait=True)
            raise SilentError(f"no connection in {self._patience:g} s") from None
        except BaseException:
            await link.disconnect(nowait=True)
            raise
        self.heard = self._loop.time()
        return link

    def _keep_late(self, node: Node, done: "asyncio.Task[Connection]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._idle.setdefault(node, []).append(done.result())

    async def _keep(self, node: Node, link: Connection) -> None:
        if self._closed:
            await link.disconnect(nowait=True)
        else:
            self._idle.setdefault(node, []).append(link)


class Watch:
    """End a wait when nothing is heard for so many seconds of a loop that is not busy itself."""

    def __init__(self, links: LoopLinks, limit: asyncio.Timeout, seconds: float) -> None:
        self._links = links
        self._limit = limit
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        self._since = self._loop.time()
        self._due = self._since + self._seconds
        self._timer = self._loop.call_at(self._due, self._look)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._due > self._seconds * _LATE:
            self._since = now  # what came in meanwhile is taken first
        self._due = max(self._since, self._links.heard) + self._seconds
        if self._due > now:
            self._timer = self._loop.call_at(self._due, self._look)
        elif not self._limit.expired():
            self._limit.reschedule(now)


async def close_with_the_loop(links: LoopLinks) -> None:
    """Have connections closed as the running loop ends.

    What ends a loop well, `asyncio.run` for one, closes the asynchronous generators that are open
    in it.
    """
    for ended in [loop for loop in list(_keepers) if loop.is_closed()]:
        _keepers.pop(ended, None)
    keeper = _keep_until_closed(links)
    _keepers.setdefault(asyncio.get_running_loop(), {})[links] = keeper
    await anext(keeper)


async def close_now(links: LoopLinks) -> None:
    """Close connections of the running loop."""
    keeper = _keepers.get(asyncio.get_running_loop(), {}).get(links)
    if keeper is not None:
        await keeper.aclose()


async def _keep_until_closed(links: LoopLinks) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await links.close()
        _keepers.get(asyncio.get_running_loop(), {}).pop(links, None)


async def _reply(link: Connection) -> Any:
    try:
        return await link.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
