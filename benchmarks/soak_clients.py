"""The clients of the soak: what they ask, and whether what they get may be."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.gateway_load import (
    OK,
    Connection,
    WrongError,
    dechunked,
    question,
    request,
    text_of,
)
from benchmarks.gateway_upstream import answer_to, vector_of

PATIENCE = 60.0
"""Seconds without an answer after which a request counts as hung."""

KINDS = {"again": 40, "new": 15, "stream": 15, "embeddings": 12, "together": 8, "leave": 10}
_EMBEDDINGS = "/v1/embeddings"


@dataclass
class Record:
    """Hold what the clients have seen; times are those of `time.monotonic`.

    `troubled` are the spans in which the store or a worker was in trouble: what was answered then
    may not have been kept. `kept` and `vectors` are what must be there ever after.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    troubled: list[tuple[float, float]] = field(default_factory=list)
    kept: dict[str, None] = field(default_factory=dict)
    vectors: dict[str, None] = field(default_factory=dict)
    maybe: list[tuple[float, float, str, bool]] = field(default_factory=list)

    def whole(self, name: str, began: float, *, is_text: bool, is_hit: bool) -> None:
        """Note that somebody has had a whole answer, which is kept if nothing was in trouble."""
        if is_hit:
            (self.vectors if is_text else self.kept)[name] = None
        else:
            self.maybe.append((began, time.monotonic(), name, is_text))

    def settle(self) -> None:
        """Take over what was answered while nothing was in trouble."""
        for began, ended, name, is_text in self.maybe:
            if not any(ended > first and began < last for first, last in self.troubled):
                (self.vectors if is_text else self.kept)[name] = None
        self.maybe.clear()


class Clients:
    """Ask a gateway from many connections at once, until they are told to stop."""

    def __init__(self, address: str, number: int, seed: int) -> None:
        self.record = Record()
        self.address = address
        self._random = random.Random(seed)
        self._number = number
        self._counter = 0
        self._under_way: list[str] = []
        self._asked: list[str] = []
        self._texts: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        self._stopping = False
        self._tasks = [asyncio.ensure_future(self._client()) for _ in range(self._number)]

    async def stop(self) -> None:
        """Let all finish what they are doing."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        connection = None
        while not self._stopping:
            if connection is None or connection.is_over:
                with contextlib.suppress(OSError):
                    connection = await Connection.open(self.address)
                if connection is None:
                    # The workers are just being replaced.
                    await asyncio.sleep(0.05)
                    continue
            kinds, weights = list(KINDS), list(KINDS.values())
            kind = self._random.choices(kinds, weights)[0]
            if kind == "leave":
                await self._leave(connection)
                connection = None
            elif kind == "embeddings":
                await self.embed(connection, self._some_texts())
            else:
                await self._chat(connection, kind)
            if connection is not None and self._random.random() < 0.02:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _new(self) -> str:
        self._counter += 1
        return f"Why is the sky blue? {self._counter}"

    def _some_texts(self) -> list[str]:
        texts = []
        for _ in range(self._random.randrange(1, 6)):
            if self._texts and self._random.random() < 0.6:
                texts.append(self._random.choice(self._texts))
            else:
                self._counter += 1
                texts.append(f"passage {self._counter}")
        return texts

    async def _chat(self, connection: Connection, kind: str) -> None:
        prompt = self._new()
        if kind == "again" and self._asked:
            # Some are asked for much more often than others.
            place = int(len(self._asked) * self._random.random() ** 3)
            prompt = self._asked[place]
        elif kind == "together" and self._under_way:
            prompt = self._random.choice(self._under_way)
        stream = kind == "stream" or (kind != "new" and self._random.random() < 0.4)
        self._under_way.append(prompt)
        try:
            await self.ask(connection, prompt, stream=stream)
        finally:
            self._under_way.remove(prompt)

    async def ask(self, connection: Connection, prompt: str, *, stream: bool) -> str:
        """Ask one question, check the answer, and tell what became of it."""
        content = question(prompt, stream=True) if stream else question(prompt)
        began = time.monotonic()
        data, body = await self._response(connection, request(self.address, content))
        outcome = _outcome(data, body)
        if outcome in ("hit", "collapsed", "miss"):
            assert data is not None
            problem = _problem(data, body, prompt, stream=stream)
            if problem:
                self.record.wrong.append(f"{outcome}, {prompt}: {problem}")
                outcome = "wrong"
            else:
                if outcome != "hit":
                    self._asked.append(prompt)
                else:
                    self.record.hits.append(time.monotonic() - began)
                self.record.whole(prompt, began, is_text=False, is_hit=outcome == "hit")
        self.record.outcomes[outcome] += 1
        return outcome

    async def embed(self, connection: Connection, texts: list[str]) -> str:
        """Ask for vectors, check them, and tell what became of it."""
        content = json.dumps({"model": "m", "input": texts, "encoding_format": "float"}).encode()
        began = time.monotonic()
        data, body = await self._response(connection, request(self.address, content, _EMBEDDINGS))
        outcome = _outcome(data, body)
        if outcome in ("hit", "collapsed", "miss"):
            assert data is not None
            given = [one["embedding"] for one in json.loads(data[body:])["data"]]
            if given != [vector_of(text) for text in texts]:
                self.record.wrong.append(f"{outcome}, {texts}: {data[body : body + 300]!r}")
                outcome = "wrong"
            else:
                for text in texts:
                    self._texts.append(text)
                    self.record.whole(text, began, is_text=True, is_hit=outcome == "hit")
            outcome = f"{outcome}, embeddings"
        self.record.outcomes[outcome] += 1
        return outcome

    async def _leave(self, connection: Connection) -> None:
        """Ask, and go away before the answer is there, or while it comes."""
        prompt = self._new() if self._random.random() < 0.7 or not self._asked else self._asked[0]
        content = question(prompt, stream=True) if self._random.random() < 0.5 else question(prompt)
        connection.send(request(self.address, content))
        await asyncio.sleep(self._random.random() * 0.03)
        connection.close()
        self.record.outcomes["left by the client"] += 1

    async def _response(self, connection: Connection, asked: bytes) -> tuple[bytes | None, int]:
        try:
            async with asyncio.timeout(PATIENCE):
                return await connection.ask(asked)
        except TimeoutError:
            connection.close()
            connection.is_over = True
            self.record.wrong.append(f"no answer within {PATIENCE:g} seconds: {asked[-200:]!r}")
            return None, 0


def _outcome(data: bytes | None, body: int) -> str:
    """Tell in a word what came, as far as head and status tell."""
    if data is None:
        return "broken off"
    head = data[:body]
    if head.startswith(OK):
        _, _, told = head.partition(b"cache-status: ")
        status = told.partition(b"\r\n")[0]
        if status.startswith(b"askonce; hit"):
            return "hit"
        return "collapsed" if b"collapsed" in status else "miss"
    code = int(head[9:12])
    if code in (429, 500) and b'"injected"' in data:
        return "the provider's own error"
    if code in (502, 504) and b'"message":"askonce: fake ' in data:
        return "the provider failed"
    return f"an error of the gateway's own, {code}"


def _problem(data: bytes, body: int, prompt: str, *, stream: bool) -> str:
    """Tell what is wrong with a whole answer, an empty string if nothing is."""
    try:
        if stream:
            text = text_of(dechunked(data[body:]))
        else:
            text = json.loads(data[body:])["choices"][0]["message"]["content"]
    except (WrongError, ValueError, LookupError) as error:
        return f"{error!r}: {data[:3000]!r}"
    return "" if text == answer_to(prompt) else f"the answer is {text[:200]!r}"
