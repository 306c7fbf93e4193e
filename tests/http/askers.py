"""Clients of both libraries in both colours, each asked in the same way."""

import asyncio
import contextvars
import importlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import askonce

CHAT = "/v1/chat/completions"
KINDS = ["httpx2", "httpx2-async", "httpx", "httpx-async"]
PATIENCE = 60.0
"""Seconds after which what should come about counts as lost; a busy machine may take some."""


@dataclass(repr=False)
class Reply:
    """Hold a response: what came, byte for byte."""

    status: int
    headers: list[tuple[str, str]]
    raw: bytes
    chunks: list[bytes]
    content: bytes

    def header(self, name: str) -> str | None:
        found = [value for given, value in self.headers if given == name]
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def hit(self) -> bool:
        return (self.header("cache-status") or "").startswith("askonce; hit")


class Asker:
    """Ask through a client, sync or async, as if it were sync."""

    def __init__(self, library: Any, client: Any) -> None:
        self.library = library
        self.client = client
        self.is_async = isinstance(client, library.AsyncClient)
        self._runner = asyncio.Runner() if self.is_async else None

    def ask(self, address: str, body: Any, headers: Any = None, method: str = "POST") -> Reply:
        """Ask for all of an answer. Raises what the client raises."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", **(headers or {})}
        request = self.client.build_request(method, address, content=content, headers=given)
        return self.run(self._aask(request)) if self._runner else self._ask(request)

    @property
    def cache(self) -> askonce.HTTPCache:
        return self.client._transport.cache

    def send(self, request: Any) -> Any:
        """Send a request and give the response, read."""
        return self.run(self.client.send(request)) if self._runner else self.client.send(request)

    def run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine, context=contextvars.copy_context())

    def _ask(self, request: Any) -> Reply:
        response = self.client.send(request, stream=True)
        try:
            chunks = list(response.iter_raw())
        finally:
            response.close()
        return self._reply(response, chunks)

    async def _aask(self, request: Any) -> Reply:
        response = await self.client.send(request, stream=True)
        try:
            chunks = [chunk async for chunk in response.aiter_raw()]
        finally:
            await response.aclose()
        return self._reply(response, chunks)

    def _reply(self, response: Any, chunks: list[bytes]) -> Reply:
        raw = b"".join(chunks)
        encoding = {"content-encoding": response.headers.get("content-encoding", "identity")}
        content = self.library.Response(200, headers=encoding, content=raw).content
        return Reply(
            response.status_code, response.headers.multi_items(), raw, chunks, content
        )

    def close(self) -> None:
        if self._runner is None:
            self.client.close()
        else:
            self._runner.run(self.client.aclose())
            self._runner.close()


def make(kind: str, cache: Any = None, inner: Any = None, **rules: Any) -> Asker:
    """Make an asker of a kind, before a cache or without one."""
    library = importlib.import_module(kind.partition("-")[0])
    is_async = kind.endswith("async")
    client = library.AsyncClient if is_async else library.Client
    if inner is None:
        # Reading all certificates takes longer than a whole test.
        inner = (library.AsyncHTTPTransport if is_async else library.HTTPTransport)(verify=False)
    if cache is None:
        return Asker(library, client(transport=inner, timeout=PATIENCE))
    transport = askonce.async_transport if is_async else askonce.transport
    made = transport(cache, inner, library=library.__name__, **rules)
    return Asker(library, client(transport=made, timeout=PATIENCE))


def body(text: str = "Hello?", **fields: Any) -> dict:
    """Make the body of a chat request."""
    messages = [{"role": "user", "content": text}]
    return {"model": "m", "messages": messages, "temperature": 0, **fields}


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does, without keeping it from doing so."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.002)
