"""Connections to the servers of a Redis, lent to one thread at a time.

redis-py's own pools raise an error when all are lent, or wait for one as long as for an answer;
here a thread waits for one as long as the server goes on answering the others.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from redis import Connection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as SilentError

from askonce.stores.redis_address import Node
from askonce.stores.redis_topology import Answers, Command, Parts

AT_ONCE = 32
"""Exchanges at the same moment: a Redis carries out one command after the other anyway."""

TROUBLE = (RedisError, OSError, UnicodeError)
"""What connections raise; UnicodeError comes from names of hosts that cannot be."""

Make = Callable[[Node], Connection]


class Links:
    """Lend connections; `seconds` is how long one may be silent, and `patience` the wait for one.

    They are made on threads of their own: to connect may take longer than a look-up may wait, and
    who comes later finds the connection there.
    """

    def __init__(self, make: Make, *, seconds: float, patience: float) -> None:
        self._make = make
        self._seconds = seconds
        self._patience = patience
        self._idle: dict[Node, list[Connection]] = {}
        self._room = threading.Semaphore(AT_ONCE)
        self._connecting = threading.Semaphore(AT_ONCE)
        self._failed = 0.0
        self._closed = False

    def exchange(self, parts: Parts) -> Answers:
        """Send commands to nodes and give their replies; errors of connections are raised."""
        began = time.monotonic()
        if not self._room.acquire(timeout=self._patience):
            raise SilentError(f"all {AT_ONCE} connections are in use")
        try:
            if self._failed > began:
                raise SilentError("the server fell silent while this waited for a connection")
            return self._exchange(parts)
        finally:
            self._room.release()

    def _exchange(self, parts: Parts) -> Answers:
        lent: dict[Node, Connection] = {}
        try:
            for node, commands in parts.items():
                link = lent[node] = self._take(node)
                link.send_packed_command(pack(link, commands), check_health=False)
            answers = {
                node: [_reply(link) for _ in range(len(parts[node]))] for node, link in lent.items()
            }
        except BaseException as error:
            if isinstance(error, TROUBLE):
                self._failed = time.monotonic()
            for link in lent.values():
                link.disconnect()
            raise
        for node, link in lent.items():
            self._keep(node, link)
        return answers

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        for links in self._idle.values():
            while links:
                links.pop().disconnect()

    def _take(self, node: Node) -> Connection:
        link = self._take_idle(node)
        if link is None:
            if not self._connecting.acquire(timeout=self._seconds):
                raise self._too_slow(node)
            link = self._take_idle(node)  # what kept others waiting may have come
            if link is None:
                return self._connect(node)
            self._connecting.release()
        return link

    def _take_idle(self, node: Node) -> Connection | None:
        idle = self._idle.setdefault(node, [])
        while True:
            try:
                link = idle.pop()
            except IndexError:
                return None
            with contextlib.suppress(*TROUBLE):
                if not link.can_read(0):  # else it was closed at the other end
                    return link
            link.disconnect()

    def _keep(self, node: Node, link: Connection) -> None:
        self._idle.setdefault(node, []).append(link)
        if self._closed:
            self.close()

    def _connect(self, node: Node) -> Connection:
        coming: Future[Connection] = Future()
        try:
            threading.Thread(
                target=self._come, args=(node, coming), name="askonce-redis", daemon=True
            ).start()
        except RuntimeError as error:  # as the interpreter ends, or with too many of them
            self._connecting.release()
            raise LostError(str(error)) from error
        try:
            return coming.result(self._seconds)
        except TimeoutError:
            if coming.cancel():
                raise self._too_slow(node) from None
            return coming.result()
        finally:
            coming.cancel()

    def _too_slow(self, node: Node) -> SilentError:
        return SilentError(f"no connection to {node.host}:{node.port} in {self._seconds:g} s")

    def _come(self, node: Node, coming: "Future[Connection]") -> None:
        try:
            link = self._make(node)
            link.connect()
        except Exception as error:  # noqa: BLE001  whatever it is, who waits is told
            if coming.set_running_or_notify_cancel():
                coming.set_exception(error)
        else:
            if coming.set_running_or_notify_cancel():
                coming.set_result(link)
            else:
                self._keep(node, link)
        finally:
            self._connecting.release()


def pack(link: Any, commands: Sequence[Command]) -> list[bytes]:
    """Write commands as a connection sends them, many in one piece."""
    return [b"".join(link.pack_commands(commands))]


def _reply(link: Connection) -> Any:
    try:
        return link.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
