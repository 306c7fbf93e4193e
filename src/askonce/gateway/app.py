"""The gateway as an ASGI application."""

import asyncio
import gc
import hmac
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry

from askonce.core.keys import RESERVED
from askonce.errors import AskonceError, StoreError
from askonce.events import load_prices
from askonce.gateway.client import Client, Message, Receive, Scope, Send
from askonce.gateway.config import Config
from askonce.gateway.handling import Handling
from askonce.gateway.refusals import Headers
from askonce.gateway.remembering import Asked, Recall
from askonce.gateway.repeating import asked_by, find_repeated
from askonce.gateway.state import State
from askonce.observe.opentelemetry import request_span
from askonce.observe.prometheus import Metrics

_log = logging.getLogger("askonce.gateway")
_access = logging.getLogger("askonce.gateway.access")

_TEXT: Final = "text/plain; charset=utf-8"
_READY_WITHIN: Final = 1.0
_GOING_AWAY: Final = 1001

Answer = tuple[int, str, bytes]


class Gateway:
    """Answer HTTP requests from the cache, or with what the providers say.

    `load` gives the configuration, now and whenever the process gets SIGHUP.
    """

    def __init__(self, load: Callable[[], Config]) -> None:
        self._load = load
        self._metrics = Metrics(CollectorRegistry())
        self._state: State | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._own: Mapping[bytes, Callable[[State, Scope], Any]] = {
            b"/healthz": self._health,
            b"/readyz": self._readiness,
            b"/metrics": self._expose,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, request or life, as ASGI 3 has it."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        began = time.perf_counter()
        state = self._state
        if state is None:
            return
        message: Message | None = None
        asked: Asked | None = None
        # Keys are for the long way to check, and so are spans.
        if scope["method"] == "POST" and state.access is None and not state.config.traces:
            message = await receive()
            state = self._state or state
            asked = asked_by(scope, message)
            recall = None if asked is None else find_repeated(state, asked)
            reply = None if recall is None else recall.known.reply()
            if recall is not None and reply is not None:
                headers, chunks = reply
                try:
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    for chunk in chunks[:-1]:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    await send({"type": "http.response.body", "body": chunks[-1]})
                except OSError:
                    # A caller that went away has its answer, too.
                    pass
                seconds = time.perf_counter() - began
                state.remembered.count(recall, seconds)
                if state.config.access_log:
                    self._log_repeated(scope, recall, seconds, sum(map(len, chunks)))
                return
        client = Client(scope, receive, send, state.config.server, first=message)
        client.asked = asked
        path = scope["raw_path"].partition(b"?")[0]
        own = self._own.get(path)
        if own is not None and scope["method"] in ("GET", "HEAD"):
            await _answer(client, await own(state, scope))
            return
        state.enter()
        try:
            await self._handle(state, client, path.decode("latin-1"), began)
        finally:
            state.leave()

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": _NO_SOCKETS})
            case _:
                raise NotImplementedError(scope["type"])

    async def start(self) -> None:
        """Open what the configuration names."""
        self._state = await self._opened()

    async def reload(self) -> None:
        """Go on under a new configuration; requests under way end under the old one.

        A configuration that cannot be used is told, and changes nothing.
        """
        # One after the other: each may take the store of the one before.
        async with self._reloading:
            old = self._state
            if old is None:
                return
            try:
                fresh = await self._opened(old)
            except (AskonceError, OSError) as error:
                _log.error("the configuration is not changed: %s", error)
                return
            fresh.take_over(old)
            self._state = fresh
            _log.info("the configuration was read anew")
            self._see_to(old.retire())

    async def _opened(self, before: State | None = None) -> State:
        state = State(self._load(), self._metrics, before)
        try:
            await state.open()
        except BaseException:
            await state.aclose()
            raise
        return state

    async def stop(self) -> None:
        """Close what was opened."""
        async with self._reloading:
            state, self._state = self._state, None
        if state is not None:
            await state.aclose()
        await asyncio.gather(*self._retiring)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except (AskonceError, OSError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._listen()
        load_prices()
        # What is there now stays: to look through it again and again would hold up requests.
        gc.collect()
        gc.freeze()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _listen(self) -> None:
        if not hasattr(signal, "SIGHUP"):
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._see_to(self.reload()))

    def _see_to(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _handle(self, state: State, client: Client, path: str, began: float) -> None:
        scope = client.scope
        query = scope["query_string"].decode("latin-1")
        handling = Handling(state, client, scope["method"], path, query)
        try:
            if state.config.traces:
                await self._traced(handling, client)
            else:
                await handling.run()
        finally:
            self._note(state, client, handling, began)

    async def _traced(self, handling: Handling, client: Client) -> None:
        with request_span("askonce", client.headers) as span:
            await handling.run()
            span.set_attribute("http.response.status_code", client.status)
            span.set_attribute("askonce.upstream", handling.route)
            span.set_attribute("askonce.outcome", handling.outcome)

    def _note(self, state: State, client: Client, handling: Handling, began: float) -> None:
        seconds = time.perf_counter() - began
        route, outcome = handling.route, handling.outcome
        if handling.recall is not None:
            state.remembered.count(handling.recall, seconds)
        else:
            status = client.status
            self._metrics.request(route=route, status=status, outcome=outcome, seconds=seconds)
            if handling.first_byte:
                self._metrics.first_byte(
                    route=route, outcome=outcome, seconds=handling.first_byte - began
                )
        if state.config.access_log:
            line = _line(
                client.scope,
                status=client.status,
                length=client.sent,
                outcome=outcome,
                route=route,
                seconds=seconds,
                key=handling.key.id if handling.key else "",
            )
            _access.info("%s", line)

    @staticmethod
    def _log_repeated(scope: Scope, recall: Recall, seconds: float, length: int) -> None:
        line = _line(
            scope,
            status=200,
            length=length,
            outcome="hit",
            route=recall.route,
            seconds=seconds,
            key="",
        )
        _access.info("%s", line)

    async def _health(self, state: State, scope: Scope) -> Answer:
        return 200, _TEXT, b"well\n"

    async def _readiness(self, state: State, scope: Scope) -> Answer:
        """Tell whether this worker can serve: it can without its store, but not as it should."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await state.store.aread([f"{RESERVED}ready"])
        except (StoreError, TimeoutError):
            return 503, _TEXT, b"the store does not answer; requests go to the providers\n"
        return (200, _TEXT, b"ready\n") if state.is_ready else (503, _TEXT, b"starting\n")

    async def _expose(self, state: State, scope: Scope) -> Answer:
        variable = state.config.access.metrics_token_env
        if variable:
            told = dict(scope["headers"]).get(b"authorization", b"")
            wanted = f"Bearer {os.environ.get(variable, '')}".encode()
            if not hmac.compare_digest(told, wanted):
                return 401, _TEXT, b"the metrics need the token of metrics_token_env\n"
        elif not state.config.server.is_loopback:
            return 403, _TEXT, b"the metrics need a token here: set [access] metrics_token_env\n"
        state.remembered.flush()
        body, kind = self._metrics.expose()
        return 200, kind, body


_NO_SOCKETS: Final = "this gateway serves no websockets; ask over HTTP"


async def _answer(client: Client, answer: Answer) -> None:
    status, kind, body = answer
    headers: Headers = [
        (b"content-type", kind.encode("latin-1")),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await client.begin(status, headers)
    await client.give(body, more=False)


def _line(
    scope: Scope, *, status: int, length: int, outcome: str, route: str, seconds: float, key: str
) -> str:
    """Write a line of the access log: no query and no header, for these hold secrets."""
    caller = scope.get("client")
    return json.dumps(
        {
            "time": round(time.time(), 3),
            "client": caller[0] if caller else "",
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "status": status,
            "outcome": outcome,
            "upstream": route,
            "key": key,
            "bytes": length,
            "milliseconds": round(seconds * 1000, 2),
        }
    )
