"""A front for an HTTP server that counts the requests it passes on."""

import contextlib
import http.client
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ONE_CONNECTION_ONLY = {"connection", "keep-alive", "transfer-encoding"}


class Front(ThreadingHTTPServer):
    """Pass requests on to the server at `address`; `received` lists their methods and paths."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urllib.parse.urlsplit(address).netloc
        self.received: list[tuple[str, str]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Say nothing: a client that hangs up is not an error, and any other fails its test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def _pass_on(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append((self.command, self.path))
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _ONE_CONNECTION_ONLY
        }
        with contextlib.closing(http.client.HTTPConnection(self.server.behind)) as connection:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _ONE_CONNECTION_ONLY:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)
                self.wfile.flush()

    do_GET = do_POST = _pass_on

    def log_message(self, *message: object) -> None:
        pass


@contextlib.contextmanager
def counted(address: str) -> Iterator[Front]:
    """Put a counting front before the server at an address, for as long as the block lasts."""
    with Front(address) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield front
        finally:
            front.shutdown()
            thread.join()
