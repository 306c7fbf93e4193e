"""Requests and providers' answers that are nearly right, out of a seed.

Each answer carries a mark that tells which question it is of: `Question.digest`, worked out from
what was asked, at the caller's side and at the provider's alike. Whoever gets an answer with
another mark has got somebody else's.
"""

import base64
import gzip
import hashlib
import json
import random
import re
import struct
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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

MARK = re.compile(rb"D([0-9a-f]{24})N([0-9a-f]{8})Z")
FILLER = " lorem ipsum \u00e9\u4e16\U0001f600 \\ \" \u2028 data: [DONE] \n\n "
DIMENSIONS = 8


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


class Fault:
    """Be what a connection does instead of going on."""

    RESET = "reset"
    HANG = "hang"


Piece = bytes | str


@dataclass
class Response:
    """Hold what a provider sends: bytes, or a Fault.

    `nonce` tells it from all others. `is_good` tells whether it may be kept, None if it does not
    matter; `status` is what its head says, 0 if it has none.
    """

    pieces: list[Piece]
    nonce: str
    is_good: bool | None
    status: int
    closes: bool = False
    payload: bytes = b""
    vectors: dict[str, list[float]] = field(default_factory=dict)


class Generator:
    """Make questions and answers; the same seed makes the same ones."""

    def __init__(self, source: random.Random, *, broken: float = 0.4, hostile: float = 0.3) -> None:
        self._random = source
        self._broken = broken
        self._hostile = hostile
        self._count = 0

    # Requests

    def request(self) -> Question:
        """Make a request that is valid HTTP; most are for answers, a few of which repeat."""
        one = self._random
        if one.random() < 0.15:
            return self._other()
        path = one.choices((*CACHED, GEMINI), (10, 2, 5, 2, 6, 1))[0]
        body = self._body(path)
        if one.random() < self._hostile:
            body = self._damaged(body)
        target = path if one.random() < 0.9 else f"/fake{path}"
        if one.random() < 0.1:
            target += "?" + one.choice(("a=1", "a=1&b=2", "b=2&a=1", "key=k1", "x=%20", "a=%C3%A9"))
        question = Question("POST", target, self._headers(), body)
        if one.random() < 0.2:
            question.chunks = list(self._cut(body))
        if one.random() < 0.06:
            question.leaves = one.randrange(4)
        return question

    def _body(self, path: str) -> bytes:
        one = self._random
        text = f"q{one.randrange(12)}"
        fields: dict[str, Any] = {"model": one.choice(("m-1", "m-1", "m-2", "gpt-4o"))}
        match path:
            case "/v1/embeddings":
                words = [f"e{one.randrange(12)}" for _ in range(one.randrange(1, 5))]
                fields["input"] = one.choice((words, words, words[0], [1, 2, 3], [[1], [2, 3]]))
                if one.random() < 0.3:
                    fields["encoding_format"] = one.choice(("float", "base64"))
            case "/v1/messages":
                fields |= {"max_tokens": 9, "messages": [{"role": "user", "content": text}]}
            case "/v1/completions":
                fields["prompt"] = text
            case "/v1/responses":
                fields |= {"input": text, "store": False}
            case "/v1/chat/completions":
                fields["messages"] = [{"role": "user", "content": text}]
            case _:
                fields = {"contents": [{"parts": [{"text": text}]}]}
        if path not in ("/v1/embeddings", GEMINI) and one.random() < 0.5:
            fields["stream"] = one.random() < 0.8
            if path == CHAT and one.random() < 0.3:
                fields["stream_options"] = {"include_usage": one.random() < 0.7}
        for name, values in _MORE:
            if one.random() < 0.05:
                fields[name] = one.choice(values)
        names = list(fields)
        if one.random() < 0.3:
            one.shuffle(names)
        shuffled = {name: fields[name] for name in names}
        return json.dumps(
            shuffled,
            ensure_ascii=one.random() < 0.5,
            indent=one.choice((None, None, 1)),
        ).encode("utf-8", "surrogatepass")

    def _damaged(self, body: bytes) -> bytes:
        """Make a body nearly what it was."""
        one = self._random
        if one.random() < 0.6:
            fields = json.loads(body.decode("utf-8", "surrogatepass"))
            name = one.choice([*fields, "messages", "input", "model", "stream", "tools", "n"])
            fields[name] = one.choice(_ODD)
            return json.dumps(fields).encode()
        match one.randrange(9):
            case 0:
                return body[: one.randrange(len(body) + 1)]
            case 1:
                return b"\xef\xbb\xbf" + body
            case 2:
                return body.replace(b"{", b'{"model":"m-1",', 1)
            case 3:
                return one.randbytes(one.randrange(60))
            case 4:
                return body[:-1] + b',"deep":' + b"[" * 200 + b"]" * 200 + b"}"
            case 5:
                return body[:-1] + b',"n":' + one.choice((b"NaN", b"1e999", b"-0", b"9" * 5000)) + b"}"
            case 6:
                return body.decode("utf-8", "replace").encode("utf-16")
            case 7:
                place = one.randrange(len(body))
                return body[:place] + one.randbytes(1) + body[place + 1 :]
            case _:
                return one.choice((b"", b"[]", b"null", b"{}", b'"text"', b"[" * 100_000))

    def _headers(self) -> Headers:
        one = self._random
        headers: Headers = [(b"host", one.choice((b"gateway.test", b"evil.example", b"up.test:1")))]
        who = one.choice((b"", b"", b"Bearer sk-one", b"Bearer sk-two"))
        if who:
            headers.append((one.choice((b"authorization", b"Authorization")), who))
        for name, values in _HEADERS:
            if one.random() < 0.04:
                headers.append((name, one.choice(values)))
        if one.random() < 0.1:
            one.shuffle(headers)
        return headers

    def _other(self) -> Question:
        """Make a request that is none of the cache's."""
        one = self._random
        method = one.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
        target = one.choice(_TARGETS)
        if one.random() < 0.15:
            letters = "".join(map(chr, range(0x21, 0x7F)))
            target = "/v1/" + "".join(one.choices(letters, k=one.randrange(1, 30)))
        body = b""
        if method in ("POST", "PUT", "PATCH"):
            body = one.randbytes(one.choice((0, 10, 1000, 100_000)))
        return Question(method, target, self._headers(), body)

    def _cut(self, body: bytes, most: int = 6) -> Iterator[bytes]:
        places = sorted(self._random.randrange(len(body) + 1) for _ in range(self._random.randrange(most)))
        for begin, end in zip([0, *places], [*places, len(body)], strict=True):
            if begin < end:
                yield body[begin:end]

    # Answers

    def response(self, question: Question) -> Response:
        """Answer a question as its provider got it: properly, or broken in some way."""
        one = self._random
        self._count += 1
        nonce = f"{self._count:08x}"
        if one.random() >= self._broken:
            return self._proper(question, nonce)
        broken: list[Callable[[Question, str], Response]] = [
            self._cut_short,
            self._cut_short,
            self._odd_status,
            self._odd_status,
            self._odd_headers,
            self._odd_content,
            self._wrong_length,
            self._garbage,
            self._fault,
        ]
        return one.choice(broken)(question, nonce)

    def _content(self, question: Question, nonce: str) -> tuple[bytes, bool, dict[str, list[float]]]:
        """Give a proper body, whether it is a stream, and the vectors in it."""
        if question.is_embeddings:
            body, vectors = embeddings(question, nonce)
            return body, False, vectors
        text = f"D{question.digest}N{nonce}Z{FILLER * self._random.choice((1, 1, 1, 30))}!"
        if not question.is_cached:
            return text.encode(), False, {}
        if question.wants_stream:
            return b"".join(stream(question.path, text, self._random)), True, {}
        return json.dumps(plain(question.path, text)).encode(), False, {}

    def _proper(self, question: Question, nonce: str) -> Response:
        body, is_stream, vectors = self._content(question, nonce)
        return self._framed(question, nonce, body, is_stream=is_stream, good=True, vectors=vectors)

    def _framed(
        self,
        question: Question,
        nonce: str,
        body: bytes,
        *,
        is_stream: bool,
        good: bool | None,
        vectors: dict[str, list[float]] | None = None,
        status: int = 200,
        headers: Headers = [],  # noqa: B006
        cut: int | None = None,
    ) -> Response:
        """Put a body into one of the three framings, cut after so many bytes of the whole."""
        one = self._random
        kind = b"text/event-stream" if is_stream else b"application/json"
        told: Headers = [(b"Content-Type", kind), (b"X-Request-Id", f"r-{nonce}".encode()), *headers]
        payload = body
        if one.random() < 0.1 and not any(n.lower() == b"content-encoding" for n, _ in told):
            body = gzip.compress(body)
            told.append((b"Content-Encoding", b"gzip"))
        if question.method == "HEAD" or status in (204, 304):
            payload = body = b""
        framing = one.choice(("length", "chunked", "chunked", "closed"))
        if framing == "length":
            told.append((b"Content-Length", b"%d" % len(body)))
            pieces = list(self._cut(body))
        elif framing == "chunked":
            told.append((b"Transfer-Encoding", b"chunked"))
            pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in self._cut(body)]
            pieces.append(b"0\r\n\r\n")
            if not body and (question.method == "HEAD" or status in (204, 304)):
                pieces = []
        else:
            told.append((b"Connection", b"close"))
            pieces = list(self._cut(body))
        whole = b"".join(pieces)
        closes = framing == "closed" or cut is not None
        if cut is not None:
            place = min(cut, max(0, len(whole) - 1))
            pieces = [whole[:place]]
            # Then all of it may have come, and only the end of its frame did not.
            is_packed = body is not payload
            if (framing == "closed" and place >= len(whole.rstrip())) or (
                (is_stream or is_packed) and place >= len(whole) - 16
            ):
                good = None
        if one.random() < 0.3:
            # Bytes as they come have no regard for what they mean.
            pieces = list(self._cut(b"".join(pieces)))
        lines = [f"HTTP/1.1 {status} Whatever".encode(), *(n + b": " + v for n, v in told)]
        head = b"\r\n".join([*lines, b"", b""])
        if one.random() < 0.1:
            head = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head
        sent: list[Piece] = [head, *pieces]
        if one.random() < 0.3:
            sent = [b"".join(piece for piece in sent if isinstance(piece, bytes))]
        return Response(sent, nonce, good, status, closes, payload, vectors or {})

    def _cut_short(self, question: Question, nonce: str) -> Response:
        body, is_stream, vectors = self._content(question, nonce)
        cut = self._random.randrange(len(body))
        if self._random.random() < 0.3:
            cut = len(body) - self._random.randrange(min(4, len(body)))
        return self._framed(
            question, nonce, body, is_stream=is_stream, good=False, vectors=vectors, cut=cut
        )

    def _odd_status(self, question: Question, nonce: str) -> Response:
        body, is_stream, vectors = self._content(question, nonce)
        status = self._random.choice(_STATUSES)
        headers = [(b"Location", b"http://evil.example/")] if 300 <= status < 400 else []
        return self._framed(
            question, nonce, body, is_stream=is_stream, good=False, vectors=vectors,
            status=status, headers=headers,
        )

    def _odd_headers(self, question: Question, nonce: str) -> Response:
        body, is_stream, vectors = self._content(question, nonce)
        headers = [self._random.choice(_ANSWER_HEADERS) for _ in range(self._random.randrange(1, 4))]
        return self._framed(
            question, nonce, body, is_stream=is_stream, good=None, vectors=vectors, headers=headers
        )

    def _odd_content(self, question: Question, nonce: str) -> Response:
        """Answer 200 with what is no answer, though it carries the mark."""
        one = self._random
        mark = f"D{question.digest}N{nonce}Z!"
        path = question.path
        whole, is_stream, _ = self._content(question, nonce)
        odd: list[tuple[bytes, bool]] = [
            (json.dumps({"error": {"message": mark}}).encode(), False),
            (json.dumps([mark]).encode(), False),
            (mark.encode(), False),
            (b"", False),
            (b"", True),
            (f"data: {mark}\n\ndata: [DONE]\n\n".encode(), True),
            (b"data: " + json.dumps({"error": {"message": mark}}).encode() + b"\n\n", True),
            (json.dumps({**plain(path, mark), **_NO_ANSWER}).encode(), False),
            (json.dumps(plain(path, mark, ended="length")).encode(), False),
            (f": {mark}\n\n".encode() * 3, True),
            (b"\r\n\r\n\r\n" + mark.encode(), True),
            (one.randbytes(50), False),
        ]
        if is_stream:
            events = whole.split(b"\n\n")
            lost = one.randrange(len(events) - 1)
            if not MARK.search(events[lost]):
                # Nobody can tell whether it was needed.
                del events[lost]
            return self._framed(question, nonce, b"\n\n".join(events), is_stream=True, good=None)
        body, is_stream = one.choice(odd)
        return self._framed(question, nonce, body, is_stream=is_stream, good=False)

    def _wrong_length(self, question: Question, nonce: str) -> Response:
        """Tell a length that the body does not have, or two."""
        one = self._random
        body, is_stream, vectors = self._content(question, nonce)
        length = len(body)
        kind = b"text/event-stream" if is_stream else b"application/json"
        extra = b""
        match one.randrange(7):
            case 0:
                told = b"Content-Length: %d" % (length + one.randrange(1, 100))
            case 1:
                told = b"Content-Length: %d" % one.randrange(length)
            case 2:
                told = b"Content-Length: %d\r\nContent-Length: %d" % (length, length + 1)
            case 3:
                told = one.choice((b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length: "))
            case 4:
                told = b"Transfer-Encoding: chunked\r\nContent-Length: %d" % one.choice((3, length))
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (length, body)
            case 5:
                told = b"Transfer-Encoding: gzip, chunked"
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (length, body)
            case _:
                # A second answer that nobody has asked for.
                told = b"Content-Length: %d" % length
                more = json.dumps(plain(CHAT, f"D{'f' * 24}N{nonce}Z!")).encode()
                extra = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
                    len(more), more,
                )
        if question.method == "HEAD":
            body = b""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n\r\n" % (kind, told)
        closes = not extra
        good = None
        return Response([head + body + extra], nonce, good, 200, closes, b"", vectors)

    def _garbage(self, question: Question, nonce: str) -> Response:
        one = self._random
        content = one.choice(
            (
                b"",
                b"\r\n\r\n",
                b"HTTP/1.1\r\n\r\n",
                b"HTTP/1.1 2000 OK\r\n\r\n",
                b"HTTP/9.9 200 OK\r\n\r\n",
                b"SSH-2.0-OpenSSH_9.2\r\n",
                b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
                b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
                one.randbytes(200),
            )
        )
        return Response([content], nonce, False, 0, closes=True)

    def _fault(self, question: Question, nonce: str) -> Response:
        one = self._random
        body, is_stream, vectors = self._content(question, nonce)
        whole = self._framed(question, nonce, body, is_stream=is_stream, good=False, vectors=vectors)
        sent = b"".join(piece for piece in whole.pieces if isinstance(piece, bytes))
        place = one.choice((0, one.randrange(len(sent))))
        fault = one.choice((Fault.RESET, Fault.HANG))
        good = None if sent[place:].strip(b"\r\n0") == b"" or is_stream and place > len(sent) - 20 else False
        return Response([sent[:place], fault], nonce, good, whole.status, closes=True)


def embeddings(question: Question, nonce: str) -> tuple[bytes, dict[str, list[float]]]:
    """Answer a batch: the vector of each input tells the input and the answer's nonce."""
    fields = question.fields
    given = fields.get("input")
    if isinstance(given, list) and given and not isinstance(given[0], int):
        inputs = given
    else:
        inputs = [given]
    vectors: dict[str, list[float]] = {}
    data = []
    for index, content in enumerate(inputs):
        digest = question.digest_of(content)
        vector = vector_of(digest, nonce)
        vectors[digest] = vector
        told: Any = vector
        if fields.get("encoding_format") == "base64":
            told = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": told})
    usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
    body = {"object": "list", "data": data, "model": "m-1", "usage": usage}
    return json.dumps(body).encode(), vectors


def vector_of(digest: str, nonce: str) -> list[float]:
    """Write a digest and a nonce as numbers that float32 holds exactly."""
    told = bytes.fromhex(digest)[:DIMENSIONS] + bytes.fromhex(nonce)
    return [byte / 256 for byte in told]


def read_vector(vector: list[float] | str) -> tuple[str, str]:
    """Give the beginning of the digest and the nonce that a vector tells."""
    if isinstance(vector, str):
        content = base64.b64decode(vector)
        vector = list(struct.unpack(f"<{len(content) // 4}f", content))
    told = bytes(round(number * 256) for number in vector)
    return told[:DIMENSIONS].hex(), told[DIMENSIONS:].hex()


def plain(path: str, text: str, ended: str = "") -> dict[str, Any]:
    """Answer in one piece, in the format of a path."""
    base = {"id": "a-1", "created": 1700000000, "model": "m-1"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    match path:
        case "/v1/messages":
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m-1",
                "content": [{"type": "text", "text": text}],
                "stop_reason": "max_tokens" if ended else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 2},
            }
        case "/v1/responses":
            return {
                "id": "resp_1",
                "object": "response",
                "created_at": 1700000000,
                "model": "m-1",
                "status": "incomplete" if ended else "completed",
                "output": [
                    {
                        "type": "message",
                        "id": "msg_1",
                        "role": "assistant",
                        "status": "completed",
                        "content": [{"type": "output_text", "text": text, "annotations": []}],
                    }
                ],
                "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            }
        case "/v1/completions":
            choice = {"index": 0, "text": text, "finish_reason": ended or "stop", "logprobs": None}
            return {**base, "object": "text_completion", "choices": [choice], "usage": usage}
        case "/v1/chat/completions":
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": ended or "stop"}
            return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        case _:
            content = {"parts": [{"text": text}], "role": "model"}
            reason = "MAX_TOKENS" if ended else "STOP"
            return {"candidates": [{"content": content, "finishReason": reason, "index": 0}]}


def stream(path: str, text: str, source: random.Random) -> Iterator[bytes]:
    """Answer as events, in the format of a path."""

    def event(body: dict[str, Any], name: str = "") -> bytes:
        begin = f"event: {name}\n" if name else ""
        return f"{begin}data: {json.dumps(body)}\n\n".encode()

    # The mark stays whole.
    end = text.index("Z") + 1
    words = [text[:end]]
    while end < len(text):
        length = source.randrange(1, 200)
        words.append(text[end : end + length])
        end += length
    if source.random() < 0.1:
        yield b": keep-alive\n\n"
    match path:
        case "/v1/messages":
            message = {**plain(path, ""), "content": [], "stop_reason": None}
            yield event({"type": "message_start", "message": message}, "message_start")
            block = {"type": "text", "text": ""}
            yield event(
                {"type": "content_block_start", "index": 0, "content_block": block},
                "content_block_start",
            )
            for word in words:
                delta = {"type": "text_delta", "text": word}
                yield event(
                    {"type": "content_block_delta", "index": 0, "delta": delta},
                    "content_block_delta",
                )
            yield event({"type": "content_block_stop", "index": 0}, "content_block_stop")
            yield event(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 2},
                },
                "message_delta",
            )
            yield event({"type": "message_stop"}, "message_stop")
        case "/v1/responses":
            whole = plain(path, text)
            begun = {**whole, "status": "in_progress", "output": []}
            yield event({"type": "response.created", "response": begun}, "response.created")
            for word in words:
                yield event(
                    {
                        "type": "response.output_text.delta",
                        "output_index": 0,
                        "content_index": 0,
                        "item_id": "msg_1",
                        "delta": word,
                    },
                    "response.output_text.delta",
                )
            yield event({"type": "response.completed", "response": whole}, "response.completed")
        case "/v1/completions":
            base = {"id": "a-1", "object": "text_completion", "created": 1700000000, "model": "m-1"}
            for word in words:
                choice = {"index": 0, "text": word, "finish_reason": None, "logprobs": None}
                yield event({**base, "choices": [choice]})
            choice = {"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}
            yield event({**base, "choices": [choice]})
            yield b"data: [DONE]\n\n"
        case _:
            base = {"id": "a-1", "created": 1700000000, "model": "m-1"}
            base["object"] = "chat.completion.chunk"
            first = {"role": "assistant", "content": ""}
            for delta in (first, *({"content": word} for word in words)):
                yield event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            yield event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            yield b"data: [DONE]\n\n"


_NO_ANSWER = {"choices": [], "content": 5, "output": 5, "candidates": []}

_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**70,
    "",
    "text",
    "\ud800",
    "\x00",
    "m" * 3000,
    "../../etc",
    [],
    [[]],
    [None],
    [1, "a"],
    [[1], []],
    ["a", ["b"]],
    [-1],
    {},
    {"role": "user"},
    [{"role": "user", "content": None}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
    [{"type": "web_search"}],
    [{"type": 5}],
    "true",
)

_MORE: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("temperature", (0, 0.0, 1, 0.5, None)),
    ("seed", (1, 2)),
    ("n", (1, 2)),
    ("user", ("a", "b")),
    ("metadata", ({"a": "b"}, None)),
    ("store", (False, None, True)),
    ("tools", ([], [{"type": "function", "function": {"name": "f"}}])),
    ("safety_identifier", ("s",)),
    ("previous_response_id", ("resp_1",)),
    ("dimensions", (8, 16)),
    ("\u00e9", ("\u00e9", "e\u0301")),
    ("ok\ud83d", ("\ud83d", 1)),
)

_HEADERS: tuple[tuple[bytes, tuple[bytes, ...]], ...] = (
    (b"x-api-key", (b"k-1", b"k-2")),
    (b"openai-organization", (b"org-1", b"org-2")),
    (b"openai-beta", (b"b-1", b"b-2")),
    (b"anthropic-beta", (b"b-1",)),
    (b"x-team", (b"t-1", b"\xe9\xff")),
    (b"cache-control", (b"no-cache", b"no-store", b"max-age=0", b"only-if-cached", b"max-age=x", b"stale-if-error=9")),
    (b"askonce-ttl", (b"60", b"-1", b"x", b"0.0001")),
    (b"askonce-tags", (b"a, b", b"", b"\xff")),
    (b"askonce-sample", (b"1", b"x", b"\xb2")),
    (b"askonce-unknown", (b"1",)),
    (b"connection", (b"close", b"keep-alive", b"x-team", b"close, openai-beta", b"authorization", b"upgrade")),
    (b"te", (b"trailers",)),
    (b"expect", (b"100-continue", b"other")),
    (b"upgrade", (b"h2c", b"websocket")),
    (b"proxy-authorization", (b"Basic eA==",)),
    (b"accept-encoding", (b"gzip", b"identity")),
    (b"content-type", (b"application/json", b"text/plain", b"")),
    (b"content-encoding", (b"gzip",)),
    (b"x-forwarded-host", (b"evil.example",)),
    (b"traceparent", (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"x")),
    (b"user-agent", (b"test/1", b"\xff")),
    (b"x-long", (b"y" * 5000,)),
)

_TARGETS = (
    "/v1/models",
    "/v1/models/m-1",
    "/v1/files",
    "/v1/files/f-1/content",
    "/v1/batches?limit=2",
    "/fake/v1/models",
    "/fake/models",
    "/v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions/x/messages",
    "/v1//models",
    "/v1/../models",
    "/v1/%2e%2e/models",
    "/v1/a%00b",
    "/v1/a;b=c",
    "/v1/..;/models",
    "/v1/\\models",
    "/v1/models?q=%ff%00",
    "/nowhere",
    "/",
    "/v1",
    "//evil.example/v1/models",
    "http://evil.example/v1/models",
    "/v1/audio/speech",
    "/v1/" + "a" * 9000,
)

_STATUSES = (
    *(201, 202, 204, 206, 226, 300, 301, 302, 304, 307, 400, 401, 402, 403, 404, 408, 409, 413, 418),
    *(422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 520, 529, 599, 600, 700, 999),
)

_ANSWER_HEADERS: Headers = [
    (b"Set-Cookie", b"a=b"),
    (b"Connection", b"close, x-secret"),
    (b"X-Secret", b"s"),
    (b"X-Request-Id", "\u20ac-1".encode()),
    (b"X-Request-Id", b"\xe9\xff"),
    (b"X-Request-Id", b""),
    (b"openai-version", b"\x01"),
    (b"openai-version", "\u4e16".encode()),
    (b"X-Odd", b"a\x7fb"),
    (b"Cache-Status", b"near; hit"),
    (b"Cache-Status", b"\xff"),
    (b"Cache-Control", b"no-store"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Trailer", b"x"),
    (b"Upgrade", b"h2c"),
    (b"Age", b"5"),
    (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    (b"Content-Encoding", b"br"),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Encoding", b"unknown"),
    (b"Content-Type", b"text/html"),
    (b"Content-Type", b"text/event-stream"),
    (b"Content-Type", b"\xff/\xff"),
    (b"X-Many", b"z" * 20_000),
    (b"Server", b"x" * 100),
    (b"Askonce-Namespace", b"other"),
]
