"""Providers' answers that are nearly right, out of a seed."""

import gzip
import json
import random
from collections.abc import Callable

from tests.gateway.answers import FILLER, MARK, Fault, Piece, Response, embeddings, plain, stream
from tests.gateway.questions import CHAT, Headers, Question
from tests.gateway.random_questions import cut


class Answers:
    """Make answers to questions; the same seed makes the same ones."""

    def __init__(self, source: random.Random, *, broken: float = 0.4) -> None:
        self._random = source
        self._broken = broken
        self._count = 0

    def to(self, question: Question) -> Response:
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
        ends: int | None = None,
    ) -> Response:
        """Put a body into one of the three framings, which ends after so many bytes of the whole."""
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
            pieces = list(cut(self._random, body))
        elif framing == "chunked":
            told.append((b"Transfer-Encoding", b"chunked"))
            pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut(self._random, body)]
            pieces.append(b"0\r\n\r\n")
            if not body and (question.method == "HEAD" or status in (204, 304)):
                pieces = []
        else:
            told.append((b"Connection", b"close"))
            pieces = list(cut(self._random, body))
        whole = b"".join(pieces)
        closes = framing == "closed" or ends is not None
        if ends is not None:
            place = min(ends, max(0, len(whole) - 1))
            pieces = [whole[:place]]
            # Then all of it may have come, and only the end of its frame did not.
            is_packed = body is not payload
            if (framing == "closed" and place >= len(whole.rstrip())) or (
                (is_stream or is_packed) and place >= len(whole) - 16
            ):
                good = None
        if one.random() < 0.3:
            # Bytes as they come have no regard for what they mean.
            pieces = list(cut(self._random, b"".join(pieces)))
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
        ends = self._random.randrange(len(body))
        if self._random.random() < 0.3:
            ends = len(body) - self._random.randrange(min(4, len(body)))
        return self._framed(
            question, nonce, body, is_stream=is_stream, good=False, vectors=vectors, ends=ends
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


_NO_ANSWER = {"choices": [], "content": 5, "output": 5, "candidates": []}

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
