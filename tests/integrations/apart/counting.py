"""A server with OpenAI's /embeddings that counts each text, and can keep its askers waiting."""

import collections
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil

from tests.providers.fault_server import proper


class CountingServer(ThreadingHTTPServer):
    """Answer, but from the `hold_from`th text on only when the gate is open."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hold_from: float = float("inf")) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"
        self.hold_from = hold_from
        self.gate = threading.Event()
        self.lock = threading.Lock()
        self.counts: collections.Counter[str] = collections.Counter()
        self.waiting: dict[int, list[str]] = {}
        """By the port of who asks."""

    def until_waiting(self, count: int, is_going) -> None:
        """Wait until so many requests are held, as long as the job is going."""
        while len(self.waiting) < count:
            assert is_going(), "the job is over"
            time.sleep(0.02)

    def handle_error(self, request, client_address) -> None:
        """Say nothing of an asker that is gone."""


def process_at(port: int) -> int:
    """Tell which process has the connection from this port of the loopback."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            return connection.pid
    raise AssertionError(f"no process is at port {port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: CountingServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = body["input"]
        port = self.client_address[1]
        with self.server.lock:
            held = self.server.counts.total() >= self.server.hold_from
            self.server.counts.update(texts)
            if held and not self.server.gate.is_set():
                self.server.waiting[port] = texts
        if held:
            self.server.gate.wait(300)
        content = json.dumps(proper(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def counting(hold_from: float = float("inf")) -> Iterator[CountingServer]:
    """Run one."""
    server = CountingServer(hold_from)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
