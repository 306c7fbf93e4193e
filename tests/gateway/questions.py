"""Requests, as their callers send them and as their provider gets them.

`Question.digest` tells which question it is, worked out from what was asked, at the caller's side
and at the provider's alike. Each answer carries it as a mark: whoever gets an answer with another
mark has got somebody else's.
"""

import hashlib
import json
import urllib.parse
from dataclasses import dataclass
from typing import Any

Headers = list[tuple[bytes, bytes]]

CHAT = "/v1/chat/completions"
CACHED = (CHAT, "/v1/completions", "/v1/messages", "/v1/responses", "/v1/embeddings")
GEMINI = "/v1/models/gem:generateContent"

CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"openai-organization")
DECIDING = (b"openai-beta", b"anthropic-beta", b"x-team")
IGNORED = {
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
}
"""Fields of a body that decide no answer; written down here anew, for these tests check it."""


def hexed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@dataclass
class Question:
    """Hold a request, as its caller sends it or as its provider gets it.

    `chunks` cuts the body; `leaves` is after how many pieces of the answer the caller goes away.
    """

    method: str
    target: str
    headers: Headers
    body: bytes = b""
    chunks: list[bytes] | None = None
    leaves: int | None = None

    @property
    def path(self) -> str:
        """Give the path as every upstream sees it, whatever name stands before it."""
        path = self.target.partition("#")[0].partition("?")[0]
        path = path.removeprefix("http://evil.example")
        if path.startswith("/fake/"):
            path = path.removeprefix("/fake")
            path = path if path.startswith("/v1/") else f"/v1{path}"
        return path

    @property
    def is_cached(self) -> bool:
        return self.method == "POST" and self.path in (*CACHED, GEMINI)

    @property
    def is_embeddings(self) -> bool:
        return self.method == "POST" and self.path == "/v1/embeddings"

    @property
    def fields(self) -> dict[str, Any]:
        """Give the body if it is a JSON object that all readers read alike, else nothing."""
        try:
            found = json.loads(self.body.decode(), object_pairs_hook=_once)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def digest(self) -> str:
        """Name what decides the answer: who asks, where, and for what."""
        return self._digest(self.fields)

    def digest_of(self, content: Any) -> str:
        """Name what decides the vector of one input."""
        fields = {k: v for k, v in self.fields.items() if k not in ("input", "encoding_format")}
        return self._digest({**fields, "input": content})

    def _digest(self, fields: dict[str, Any]) -> str:
        decides: Any = {k: v for k, v in fields.items() if k not in IGNORED} if fields else None
        if decides is None:
            decides = self.body.decode("latin-1")
        told = [(n.lower(), v.strip()) for n, v in self.headers]
        gone = {
            part.strip().lower() for n, v in told if n == b"connection" for part in v.split(b",")
        }
        headers = sorted(
            (n.decode(), v.decode("latin-1"))
            for n, v in told
            if n in CREDENTIALS + DECIDING and n not in gone
        )
        asked = urllib.parse.unquote(self.target.partition("#")[0].partition("?")[2], "latin-1")
        query = sorted(asked.split("&"))
        return hexed(json.dumps([self.method, self.path, query, headers, decides], sort_keys=True))

    @property
    def wants_stream(self) -> bool:
        return self.fields.get("stream") is True

    def raw(self) -> bytes:
        """Write the request as HTTP/1.1 has it."""
        head = [f"{self.method} {self.target} HTTP/1.1".encode("latin-1")]
        head += [name + b": " + value for name, value in self.headers]
        if self.chunks is not None:
            head.append(b"transfer-encoding: chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in self.chunks if one)
            body += b"0\r\n\r\n"
        else:
            body = self.body
            if body or self.method in ("POST", "PUT", "PATCH"):
                head.append(b"content-length: %d" % len(body))
        return b"\r\n".join([*head, b"", body])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)
