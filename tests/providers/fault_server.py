"""A server with OpenAI's /embeddings, over real sockets, that misbehaves on command."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DIMENSIONS = 16


def vector_of(text: str, dimensions: int = DIMENSIONS) -> np.ndarray:
    """Give every text a vector of its own."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)


def vectors_of(texts: list[str], dimensions: int = DIMENSIONS) -> np.ndarray:
    return np.array([vector_of(text, dimensions) for text in texts], np.float32)


@dataclass
class Refuse:
    """Answer with an error status."""

    status: int
    error: object = None
    headers: dict[str, str] = field(default_factory=dict)
    wrapped: bool = True


@dataclass
class Change:
    """Answer properly but for a change of the JSON."""

    change: Callable[[dict], object]


@dataclass
class Say:
    """Answer 200 with these bytes."""

    body: bytes


@dataclass
class Together:
    """Act like this, but not before so many requests have come."""

    count: int
    action: Refuse


class Hang:
    """Never answer."""


class Break:
    """Close the connection in the middle of the answer."""


Action = Refuse | Change | Say | Together | type[Hang] | type[Break] | None


class FaultServer(ThreadingHTTPServer):
    """Answer requests: by the next action of `script`, else by `rule`, else properly."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"
        self.script: list[Action] = []
        self.rule: Callable[[dict], Action] = lambda body: None
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.over = threading.Event()
        self.lock = threading.Condition()

    @property
    def inputs(self) -> list[list[str]]:
        return [body["input"] for body in self.bodies]

    def handle_error(self, request, client_address) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: FaultServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.lock.notify_all()
            self.server.headers.append({n.lower(): v for n, v in self.headers.items()})
            self.server.paths.append(self.path)
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
            action = self.server.script.pop(0) if self.server.script else self.server.rule(body)
        try:
            self._act(action, body)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _act(self, action: Action, body: dict) -> None:
        match action:
            case None:
                self._send(200, json.dumps(proper(body)).encode())
            case Refuse(status, error, headers, wrapped):
                if error is None:
                    error = {"message": "no"}
                content = {"error": error} if wrapped else error
                self._send(status, json.dumps(content).encode(), headers)
            case Change(change):
                answer = proper(body)
                changed = change(answer)
                self._send(200, json.dumps(answer if changed is None else changed).encode())
            case Say(content):
                self._send(200, content)
            case Together(count, action):
                with self.server.lock:
                    self.server.lock.wait_for(lambda: len(self.server.bodies) >= count, 30)
                self._act(action, body)
            case _ if action is Hang:
                self.server.over.wait(30)
                self.close_connection = True
            case _ if action is Break:
                content = json.dumps(proper(body)).encode()
                self._send(200, content[:-10], length=len(content))
                self.close_connection = True

    def _send(self, status, content, headers=None, length=None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *message: object) -> None:
        pass


def proper(body: dict) -> dict:
    """Answer as OpenAI does."""
    data = []
    for index, text in enumerate(body["input"]):
        vector = vector_of(text, body.get("dimensions", DIMENSIONS))
        packed = base64.b64encode(vector.astype("<f4").tobytes()).decode()
        numbers = packed if body.get("encoding_format") == "base64" else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    tokens = sum(len(text.split()) for text in body["input"])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


@contextlib.contextmanager
def running() -> Iterator[FaultServer]:
    with FaultServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
