"""A provider for tests: it answers in OpenAI's format, each time with another number."""

import contextlib
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRETS = ("sk-secret", "session=secret", "org-secret", "proj-secret")


class Provider(ThreadingHTTPServer):
    """Answer "one 1", "two 2", …; `asked` are the bodies that were received.

    What is asked "fail" is answered 429, "odd" with JSON that nobody writes so.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict] = []
        self.numbers = itertools.count(1)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        number = next(self.server.numbers)
        if self.path == "/v1/embeddings":
            given = body["input"]
            texts = given if isinstance(given, list) else [given]
            data = [
                {"object": "embedding", "index": place, "embedding": [len(text), 0.1, number]}
                for place, text in enumerate(texts)
            ]
            self._send({"object": "list", "model": "m", "data": data})
        elif body["messages"][-1]["content"] == "fail":
            self._send({"error": {"message": f"too many: {number}"}}, 429)
        elif body.get("stream"):
            self._stream(f"{body['messages'][-1]['content']} {number}")
        else:
            self._send(completion(f"{body['messages'][-1]['content']} {number}"))

    def _send(self, value: object, status: int = 200) -> None:
        content = json.dumps(value).encode()
        if b'"odd' in content:
            content = content.replace(b'"odd', b'"\\u006fdd')
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self._send_secrets()
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self._send_secrets()
        self.end_headers()
        for piece in [*text, ""]:
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "delta": {"role": "assistant", "content": piece},
                        "finish_reason": None if piece else "stop",
                    }
                ],
            }
            self.wfile.write(b"data: %s\n\n" % json.dumps(chunk).encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")

    def _send_secrets(self) -> None:
        self.send_header("Set-Cookie", "session=secret")
        self.send_header("OpenAI-Organization", "org-secret")
        self.send_header("OpenAI-Project", "proj-secret")
        self.send_header("X-Request-Id", "request-1")

    def log_message(self, *message: object) -> None:
        pass


def completion(text: str) -> dict:
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


@contextlib.contextmanager
def provider():
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
