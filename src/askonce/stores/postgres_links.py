"""The connections to a Postgres server: lent to one call at a time, made when they are wanted.

psycopg's own pool hides why it cannot connect, logs it instead, and does not survive a fork.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from askonce.core import fork
from askonce.errors import StoreError, StoreRefusedError
from askonce.stores.postgres_link import Link, Patience


class Links:
    """Lend connections, at most so many at once, to threads and to tasks of any event loop.

    They are made by threads of their own: to connect may take longer than a look-up may wait,
    and who comes later finds the connection there. `make` raises StoreError.
    """

    def __init__(self, make: Callable[[], Link], most: int, name: str) -> None:
        self._make = make
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._process = os.getpid()
        self._idle: list[Link] = []
        self._waiting: deque[Future[Link]] = deque()
        self._count = 0
        self._connecting = 0
        self._closed = False
        weakref.finalize(self, _close_all, self._idle)

    def take(self, patience: Patience) -> Link:
        """Take a connection. Raises StoreError."""
        link = self._request()
        if isinstance(link, Link):
            return link
        try:
            return link.result(patience.left())
        except TimeoutError:
            self._forsake(link)
            raise self._none_came(patience) from None
        except BaseException:
            self._forsake(link)
            raise

    async def atake(self, patience: Patience) -> Link:
        """Take without blocking the event loop."""
        link = self._request()
        if isinstance(link, Link):
            return link
        try:
            async with asyncio.timeout(patience.left()):
                return await asyncio.wrap_future(link)
        except TimeoutError:
            self._forsake(link)
            raise self._none_came(patience) from None
        except BaseException:
            self._forsake(link)
            raise

    def give(self, link: Link) -> None:
        """Give a connection back to whoever waits for one."""
        with self._lock:
            self._mind_forks()
            mine = link.process == self._process
            if not mine or self._closed:
                self._count -= mine
                heir = None
            else:
                heir = self._next_waiting()
                if heir is None:
                    self._idle.append(link)
                    return
        if heir is None:
            link.close()
        else:
            heir.set_result(link)

    def drop(self, link: Link, *, unproven_since: float = 0.0) -> None:
        """Close a connection, and those idle ones that have not been heard of since then."""
        with self._lock:
            self._mind_forks()
            gone = [idle for idle in self._idle if idle.proven < unproven_since]
            self._idle[:] = [idle for idle in self._idle if idle not in gone]
            self._count -= len(gone) + (link.process == self._process)
            wanted = self._one_more()
        _close_all([link, *gone])
        if wanted:
            self._connect_aside()

    def close(self) -> None:
        """Close all; those that are lent are closed when they come back."""
        with self._lock:
            self._mind_forks()
            self._closed = True
            self._count -= len(self._idle)
            gone = list(self._idle)
            self._idle.clear()
            waiting = list(self._waiting)
            self._waiting.clear()
        _close_all(gone)
        _fail(waiting, self._is_closed())

    def _request(self) -> Link | Future[Link]:
        dead: list[Link] = []
        with self._lock:
            self._mind_forks()
            if self._closed:
                raise self._is_closed()
            link = None
            while self._idle and link is None:
                link = self._idle.pop()
                if not link.is_alive():
                    dead.append(link)
                    link = None
            self._count -= len(dead)
            waiter: Future[Link] = Future()
            if link is None:
                self._waiting.append(waiter)
            wanted = self._one_more()
        _close_all(dead)
        if wanted:
            self._connect_aside()
        return link or waiter

    def _one_more(self) -> bool:
        """Decide whether another connection is to be made; it is counted at once."""
        wanted = not self._closed and self._connecting < len(self._waiting)
        if not wanted or self._count >= self._most:
            return False
        self._count += 1
        self._connecting += 1
        return True

    def _connect_aside(self) -> None:
        thread = threading.Thread(target=self._connect, name="askonce-postgres", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # as the interpreter ends, or with too many of them
            self._failed(StoreError(f"{self._name}: cannot connect: {error}"))

    def _connect(self) -> None:
        try:
            link = self._make()
        except Exception as error:  # noqa: BLE001  who waits is told
            self._failed(error)
        else:
            with self._lock:
                self._connecting -= 1
            self.give(link)

    def _failed(self, error: Exception) -> None:
        """Tell those who wait why, unless other connections may still come back to them."""
        with self._lock:
            self._connecting -= 1
            self._count -= 1
            waiting = [] if self._count else list(self._waiting)
            if waiting:
                self._waiting.clear()
        _fail(waiting, error)

    def _next_waiting(self) -> "Future[Link] | None":
        while self._waiting:
            waiter = self._waiting.popleft()
            if waiter.set_running_or_notify_cancel():
                return waiter
        return None

    def _forsake(self, waiter: "Future[Link]") -> None:
        """Wait no longer; what came at the last moment is for others."""
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if not waiter.cancel() and waiter.exception() is None:
            self.give(waiter.result())

    def _mind_forks(self) -> None:
        """Leave the connections of the parent to the parent."""
        if self._process != os.getpid():
            self._process = os.getpid()
            _close_all(self._idle)
            self._idle.clear()
            self._waiting.clear()
            self._count = self._connecting = 0

    def _is_closed(self) -> StoreError:
        return StoreError(f"{self._name}: the store is closed")

    def _none_came(self, patience: Patience) -> StoreError:
        with self._lock:
            busy = self._count - self._connecting - len(self._idle)
        if busy >= self._most:
            return StoreRefusedError(
                f"{self._name}: none of {self._most} connections became free within "
                f"{patience.limits.silence:g} s; raise the option 'connections'"
            )
        return StoreError(
            f"{self._name}: no connection within {patience.limits.silence:g} s; check that "
            "a Postgres server is at this host and port and answers"
        )


def _close_all(links: list[Link]) -> None:
    for link in links:
        link.close()


def _fail(waiting: "list[Future[Link]]", error: Exception) -> None:
    for waiter in waiting:
        if waiter.set_running_or_notify_cancel():
            # One of its own for each: a raised error collects where it came by.
            waiter.set_exception(StoreError(*error.args))
