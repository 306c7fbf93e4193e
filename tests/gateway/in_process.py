"""A gateway between bytes and bytes, in this process: no socket, its real protocols on both sides.

What callers send goes through the server's own parser, and what the provider sends through the
client's: so what is wrong with either shows as it would on a wire.
"""

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h11
import httpx2
import uvicorn
from uvicorn.server import ServerState

from askonce.gateway.app import Gateway
from askonce.gateway.config import Config
from askonce.gateway.connection import Connection
from askonce.gateway.direct import Direct
from askonce.gateway.protocol import BoundedProtocol
from tests.gateway.answers import Fault, Response
from tests.gateway.questions import Question

UPSTREAM = "http://up.test/v1"
Answers = Callable[[Question], Response]


class Provider:
    """Answer what is asked over connections that exist only here."""

    def __init__(self, answer: Answers) -> None:
        self.answer = answer
        self.asked: list[Question] = []
        self.said: dict[str, Response] = {}
        self.hosts: set[tuple[str, int]] = set()
        self.connections: deque[Upstream] = deque(maxlen=100)
        self.is_down = False

    def serve(self, direct: Direct) -> None:
        """Be what this transport connects to."""

        async def connect() -> Connection:
            self.hosts.add((direct._host, direct._port))
            if self.is_down:
                raise ConnectionRefusedError("refused")
            connection = direct.made()
            self.connections.append(Upstream(self, connection))
            connection.connection_made(self.connections[-1])
            return connection

        direct.connect = connect  # type: ignore[method-assign]

    def respond(self, question: Question) -> Response:
        self.asked.append(question)
        response = self.answer(question)
        self.said[response.nonce] = response
        return response


class Upstream(asyncio.Transport):
    """Be a connection to the provider: what is written is asked, what is said comes in pieces."""

    def __init__(self, provider: Provider, connection: Connection) -> None:
        super().__init__()
        self._provider = provider
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._request: h11.Request | None = None
        self._body = b""
        self._pieces: deque[Any] = deque()
        self._closes = False
        self._is_paused = False
        self._is_giving = False
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self._parser.receive_data(bytes(data))
        while not self._closes:
            event = self._parser.next_event()
            match event:
                case h11.Request():
                    self._request = event
                    self._body = b""
                case h11.Data():
                    self._body += event.data
                case h11.EndOfMessage():
                    self._respond()
                    # Of what is answered this parser knows nothing.
                    rest = self._parser.trailing_data[0]
                    self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
                    if rest:
                        self._parser.receive_data(rest)
                    return
                case _:
                    return

    def _respond(self) -> None:
        assert self._request is not None
        question = Question(
            self._request.method.decode(),
            self._request.target.decode("latin-1"),
            [(name, value) for name, value in self._request.headers],
            self._body,
        )
        response = self._provider.respond(question)
        self._pieces += response.pieces
        self._closes = response.closes
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_giving:
            self._is_giving = True
            self._loop.call_soon(self._give)

    def _give(self) -> None:
        self._is_giving = False
        if self.is_closed or self._is_paused:
            return
        piece = self._pieces.popleft() if self._pieces else None
        match piece:
            case asyncio.Event():
                self._is_giving = True
                waiting = self._loop.create_task(piece.wait())
                waiting.add_done_callback(lambda _: self._give())
                return
            case Fault.RESET:
                self._lose(ConnectionResetError("reset"))
            case Fault.HANG:
                self._connection._late(httpx2.ReadTimeout)
            case bytes():
                if piece:
                    self._connection.data_received(piece)
            case None if self._closes:
                self._lose(None)
            case None:
                # Nothing more comes, and nobody has to wait for that.
                reading = self._connection._reading
                if reading is not None and not reading.is_whole:
                    self._connection._late(httpx2.ReadTimeout)
                return
        self._go_on()

    def _lose(self, error: Exception | None) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._loop.call_soon(self._connection.connection_lost, error)

    def close(self) -> None:
        self._lose(None)

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._go_on()


class Wire(asyncio.Transport):
    """Be the caller's connection."""

    def __init__(self, leaves: int | None) -> None:
        super().__init__()
        self.sent = bytearray()
        self.protocol: Any = None
        self.moved = asyncio.Event()
        self.is_over = False
        self._leaves = leaves
        self._writes = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: Any) -> None:
        self.sent += data
        self._writes += 1
        self.moved.set()
        if self._leaves is not None and self._writes > self._leaves:
            self.leave()

    def leave(self) -> None:
        """Go away as a caller does."""
        if not self.is_over:
            self.is_over = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, OSError("gone"))
        self.moved.set()

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        self.moved.set()

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass
class Got:
    """Hold what a caller got: `is_whole` tells that nothing of it is missing."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool
    raw: bytes = b""
    question: Question | None = field(default=None, repr=False)

    @property
    def outcome(self) -> str:
        return self.headers.get("cache-status", "")

    def json(self) -> Any:
        return json.loads(self.body)


class InProcess:
    """Serve a configuration here; `answer` is the provider's part."""

    def __init__(self, answer: Answers, **sections: Any) -> None:
        told: dict[str, Any] = {
            "cache": {"store": "memory://"},
            "upstreams": [{"name": "fake", "base_url": UPSTREAM, "paths": ["/v1/*"]}],
            "access_log": False,
            **sections,
        }
        self.config = Config.model_validate(told)
        self.provider = Provider(answer)
        self.gateway = Gateway(lambda: self.config)
        self.problems: list[str] = []
        self._state = ServerState()

    async def __aenter__(self) -> "InProcess":
        await self.gateway.start()
        state = self.gateway._state
        assert state is not None
        for way in state.ways.values():
            assert isinstance(way.transport, Direct)
            self.provider.serve(way.transport)
        self._settings = uvicorn.Config(
            self._app, http=BoundedProtocol, ws="none", lifespan="off", access_log=False,
            server_header=False, proxy_headers=False, log_config=None, interface="asgi3",
        )
        self._settings.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.stop()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.gateway(scope, receive, send)
        except BaseException as error:
            self.problems.append(f"{error!r} for {scope['method']} {scope['raw_path']!r}")
            raise

    async def ask(self, question: Question, *, within: float = 30) -> Got:
        got = await self.send(question.raw(), question.method, question.leaves, within=within)
        got.question = question
        return got

    async def send(
        self, raw: bytes, method: str = "GET", leaves: int | None = None, *, within: float = 30
    ) -> Got:
        """Send bytes and give the first answer; raises TimeoutError if there is none in time."""
        return await self.open(raw, method, leaves).got(within=within)

    def open(self, raw: bytes, method: str = "POST", leaves: int | None = None) -> "Opened":
        """Send bytes on a connection of their own."""
        wire = Wire(leaves)
        wire.protocol = BoundedProtocol(self._settings, self._state, {})
        wire.protocol.connection_made(wire)
        wire.protocol.data_received(raw)
        return Opened(wire, method)


@dataclass
class Opened:
    """Hold a connection on which an answer is to come."""

    wire: Wire
    method: str

    def leave(self) -> None:
        self.wire.leave()

    async def got(self, *, within: float = 30) -> Got:
        """Give the answer when it is whole or the connection is closed."""
        wire, protocol = self.wire, self.wire.protocol
        async with asyncio.timeout(within):
            while not wire.is_over and not (protocol.cycle and protocol.cycle.response_complete):
                wire.moved.clear()
                await wire.moved.wait()
        wire.leave()
        await asyncio.sleep(0)
        return read(bytes(wire.sent), self.method)


def read(sent: bytes, method: str) -> Got:
    """Read an answer as a strict client does."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 22)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(sent)
    parser.receive_data(b"")
    status, headers, body = 0, {}, b""
    is_whole = False
    try:
        while True:
            event = parser.next_event()
            match event:
                case h11.Response():
                    status = event.status_code
                    headers = {n.decode(): v.decode("latin-1") for n, v in event.headers}
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    is_whole = True
                    break
                case h11.InformationalResponse():
                    continue
                case _:
                    break
    except h11.RemoteProtocolError:
        pass
    return Got(status, headers, body, is_whole, sent)


async def settled() -> None:
    """Let what goes on behind the answers come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)
