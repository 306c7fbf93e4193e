"""Requests that are nearly right, out of a seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.gateway.questions import CACHED, CHAT, GEMINI, Headers, Question


class Questions:
    """Make questions; the same seed makes the same ones."""

    def __init__(self, source: random.Random, *, hostile: float = 0.3) -> None:
        self._random = source
        self._hostile = hostile

    def make(self) -> Question:
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
            question.chunks = list(cut(self._random, body))
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


def cut(source: random.Random, content: bytes, most: int = 6) -> Iterator[bytes]:
    """Cut bytes into pieces, at places of no meaning."""
    places = sorted(source.randrange(len(content) + 1) for _ in range(source.randrange(most)))
    for begin, end in zip([0, *places], [*places, len(content)], strict=True):
        if begin < end:
            yield content[begin:end]


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
