"""A load generator: one task a line of JSON on standard input, its result a line on standard output.

Connections are kept alive, and every response is checked: its status, its length, its content.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import uvloop

from benchmarks.gateway_upstream import answer_to

OK = b"HTTP/1.1 200"
END = b"\r\n0\r\n\r\n"
SYSTEM = "You answer briefly. " * 20


class WrongError(Exception):
    """Say what is wrong with a response."""


def question(prompt: str, **more: object) -> bytes:
    """Give the body of a request."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return json.dumps({"model": "m", "messages": messages, "temperature": 0, **more}).encode()


def request(address: str, content: bytes, path: str = "/v1/chat/completions") -> bytes:
    """Give the bytes of a request."""
    host = address.removeprefix("http://")
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\nuser-agent: load\r\n"
        f"authorization: Bearer sk-load\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    ).encode() + content


def dechunked(body: bytes) -> bytes:
    """Take the chunks of a body apart, which has come to its end."""
    pieces = []
    place = 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        place = end + 2 + size + 2


def text_of(body: bytes) -> str:
    """Put the text of a streamed answer together. Raises WrongError if it has not ended."""
    *events, last, rest = body.decode().split("\n\n")
    if last != "data: [DONE]" or rest:
        raise WrongError(f"a stream ends with {body[-100:]!r}")
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    return "".join(delta.get("content", "") for delta in deltas)


class Connection(asyncio.Protocol):
    """Send requests one after the other; `then` gets the bytes of each response, head and body.

    `then` gets None if the connection ends before the response does.
    """

    def __init__(self) -> None:
        self.then: Callable[[bytes | None, int], None] = _ignore
        self.first_byte = 0.0
        self.is_over = False
        self._have: list[bytes] = []
        self._size = 0
        self._body = -1
        self._length = -1

    @classmethod
    async def open(cls, address: str) -> "Connection":
        host, _, port = address.removeprefix("http://").rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, int(port))
        return connection

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, content: bytes) -> None:
        self.first_byte = 0.0
        self.transport.write(content)

    async def ask(self, content: bytes) -> tuple[bytes | None, int]:
        """Give a response and the place where its body begins."""
        done = asyncio.get_running_loop().create_future()
        self.then = lambda *found: done.done() or done.set_result(found)
        if self.is_over:
            return None, 0
        self.send(content)
        found: tuple[bytes | None, int] = await done
        return found

    def data_received(self, data: bytes) -> None:
        if not self.first_byte:
            self.first_byte = time.perf_counter()
        if self._have:
            self._have.append(data)
            self._size += len(data)
            # A body of known length is put together once, one in chunks when it seems to end.
            if self._length >= 0 and self._size < self._body + self._length:
                return
            if self._length < 0 <= self._body and not data.endswith(b"\n"):
                return
            data = b"".join(self._have)
        else:
            self._size = len(data)
        if self._body < 0 and not self._read_head(data):
            self._have = [data]
            return
        if self._size < self._body + self._length if self._length >= 0 else data[-7:] != END:
            self._have = [data]
            return
        body = self._body
        self._have, self._size, self._body, self._length = [], 0, -1, -1
        self.then(data, body)

    def _read_head(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body = end + 4
        told = data.find(b"content-length: ", 0, end)
        if told >= 0:
            self._length = int(data[told + 16 : data.index(b"\r\n", told)])
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True
        self.then(None, 0)

    def close(self) -> None:
        self.then = _ignore
        self.transport.abort()


def _ignore(*_: object) -> None:
    pass


async def hammer(address: str, content: str, clients: int, seconds: float, holds: str) -> Any:
    """Ask the same again and again; give how often that was answered within the time.

    All answers are equal to the first one, which has `holds` in it.
    """
    asked = request(address, content.encode())
    first = await Connection.open(address)
    data, place = await first.ask(asked)
    first.close()
    if data is None or not data.startswith(OK) or holds.encode() not in data:
        raise WrongError(f"{address} answers {data!r}")
    expected = data[place:]
    done = asyncio.get_running_loop().create_future()
    count = 0
    until = 0.0

    def start(connection: Connection) -> None:
        def then(data: bytes | None, place: int) -> None:
            nonlocal count
            if data is None or not data.startswith(OK) or data[place:] != expected:
                if not done.done():
                    done.set_exception(WrongError(f"{address} answers {data!r}"))
                return
            count += 1
            if time.perf_counter() < until:
                connection.transport.write(asked)
            elif not done.done():
                done.set_result(time.perf_counter())

        connection.then = then
        connection.send(asked)

    connections = [await Connection.open(address) for _ in range(clients)]
    began = time.perf_counter()
    until = began + seconds
    for connection in connections:
        start(connection)
    ended = await done
    answered = count
    for connection in connections:
        connection.close()
    return {"count": answered, "seconds": ended - began, "length": len(expected)}


async def misses(addresses: dict[str, str], clients: int, requests: int, run: str) -> Any:
    """Ask what was never asked before, in turns here and there; give the seconds of each."""
    found: dict[str, list[float]] = {name: [] for name in addresses}

    async def client(number: int) -> None:
        connections = {name: await Connection.open(where) for name, where in addresses.items()}
        names = list(addresses)
        for turn in range(requests):
            for name in names if (turn + number) % 2 else reversed(names):
                prompt = f"Why is the sky blue? {run} {number} {turn} {name}"
                asked = request(addresses[name], question(prompt))
                began = time.perf_counter()
                data, _ = await connections[name].ask(asked)
                found[name].append(time.perf_counter() - began)
                if (
                    data is None
                    or not data.startswith(OK)
                    or answer_to(prompt).encode() not in data
                ):
                    raise WrongError(f"{name} answers {data!r}")
        for connection in connections.values():
            connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return found


async def streams(address: str, number: int, rate: float, run: str) -> Any:
    """Open so many streams, so many a second; give when the first events of all came that came whole.

    `most` is how many were open at once, `refused` how many had an error instead.
    """
    first: list[float] = []
    now = most = refused = 0

    async def one(place: int) -> None:
        nonlocal now, most, refused
        await asyncio.sleep(place / rate)
        connection = await Connection.open(address)
        prompt = f"Why is the sky blue? {run} {place}"
        asked = request(address, question(prompt, stream=True))
        now += 1
        most = max(most, now)
        began = time.perf_counter()
        data, body = await connection.ask(asked)
        now -= 1
        connection.close()
        if data is None or not data.startswith(OK):
            refused += 1
            return
        if text_of(dechunked(data[body:])) != answer_to(prompt):
            raise WrongError(f"a stream has not the answer to its question: {data[-2000:]!r}")
        first.append(connection.first_byte - began)

    await asyncio.gather(*(one(place) for place in range(number)))
    return {"first": first, "most": most, "refused": refused}


TASKS = {"hammer": hammer, "misses": misses, "streams": streams}


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        try:
            result = {"result": uvloop.run(TASKS[task.pop("task")](**task))}
        except WrongError as error:
            result = {"wrong": str(error)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
