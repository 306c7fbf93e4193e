"""What a chat answer costs that is there already, and what one costs that is not.

- **Hit**: a request through the SDK of OpenAI whose answer is stored, against the same SDK over a
  mock transport that gives the canned answer at once: what no cache can go below.
- **LiteLLM**: `litellm.completion` on a hit of its in-process cache, in an environment of its own,
  for it needs an older SDK; against our transport from the request to the answer's bytes, without
  the SDK around it, whose own time the first table tells.
- **First byte**: a streamed answer that is not stored, from a server on this machine, until its
  first chunk is there; against the SDK without a cache.
- **LangChain**: `invoke` on a chat model whose answer is stored, with `cached(model)` and with
  LangChain's own in-memory cache.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import openai
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel

import askonce
from askonce.integrations.langchain import cached
from benchmarks.frame import Comparison, Contender, Contest

TITLE = "Chat answers: hits, misses, and the limit"
PACKAGES = ("openai", "httpx2", "langchain-core")
_ROOT = Path(__file__).parent.parent
_LITELLM = ".cache/bench-litellm"
_STREAMS = 20
"""Each takes a while of waiting for the server: one alone tells little."""

MESSAGES = [
    {"role": "system", "content": "You answer briefly. " * 20},
    {"role": "user", "content": "Why is the sky blue, and not violet?"},
]
TEXT = "Sunlight is scattered by the air, and blue more than red. " * 20
ASK = {"model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0}
_HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini"}
BODY = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400},
    }
).encode()


def _chunk(delta: dict, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {**_HEAD, "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


CHUNKS = [
    _chunk({"role": "assistant", "content": ""}),
    *(_chunk({"content": word + " "}) for word in TEXT.split()),
    _chunk({}, "stop"),
    b"data: [DONE]\n\n",
]


class Events(httpx2.SyncByteStream):
    """A stream whose events come one by one, as a provider sends them."""

    def __iter__(self) -> Iterator[bytes]:
        yield from CHUNKS


def _canned(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' in request.content:
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream"}, stream=Events()
        )
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=BODY)


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their files live as long as each of them runs."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_work()))
        yield from _hits(stack, folder)
        yield _first_byte(stack)
        yield _langchain()


def _work() -> Path:
    work = _ROOT / ".cache"
    work.mkdir(exist_ok=True)
    return work


def _client(stack: ExitStack, transport: httpx2.BaseTransport) -> openai.OpenAI:
    http = stack.enter_context(httpx2.Client(transport=transport))
    return openai.OpenAI(api_key="none", base_url="http://provider.invalid/v1", http_client=http)


def _hits(stack: ExitStack, folder: str) -> Iterator[Contest]:
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/hits.db"}
    mock = _client(stack, httpx2.MockTransport(_canned))
    ours = {
        name: _client(stack, askonce.transport(store, httpx2.MockTransport(_canned)))
        for name, store in stores.items()
    }

    def plain(client: openai.OpenAI) -> Callable[[object], object]:
        return lambda _: client.chat.completions.create(**ASK)

    def stream(client: openai.OpenAI) -> Callable[[object], object]:
        # A question of its own, so that its answer was recorded as a stream.
        ask = {**ASK, "seed": 1, "stream": True}
        return lambda _: list(client.chat.completions.create(**ask))

    for title, work in (("Hit", plain), ("Hit, streamed", stream)):
        yield Contest(
            title,
            "µs per request",
            [
                Contender("SDK over a canned transport", work(mock)),
                *(Contender(f"askonce, {name}", work(client)) for name, client in ours.items()),
            ],
            [
                Comparison(f"askonce, {name}", "SDK over a canned transport", 1 / 1.25)
                for name in ours
            ],
        )
    litellm = stack.enter_context(_LiteLLM())
    yield Contest(
        "Hit, against LiteLLM's in-process cache",
        "µs per request",
        [
            Contender("LiteLLM", litellm.hit),
            *(
                Contender(f"askonce's transport, {name}", _hit(stack, store))
                for name, store in stores.items()
            ),
        ],
        [Comparison(f"askonce's transport, {name}", "LiteLLM", 8) for name in stores],
    )


def _hit(stack: ExitStack, store: str) -> Callable[[object], object]:
    transport = stack.enter_context(askonce.transport(store, httpx2.MockTransport(_canned)))
    request = httpx2.Request("POST", "http://provider.invalid/v1/chat/completions", json=ASK)

    def work(_: object) -> None:
        response = transport.handle_request(request)
        response.read()
        response.close()

    return work


class _LiteLLM:
    """Hits of LiteLLM's cache in a process of its own, a hundred at a time."""

    def __enter__(self) -> "_LiteLLM":
        subprocess.run(
            ["bash", "scripts/_environment", _LITELLM, "litellm[proxy]"], cwd=_ROOT, check=True
        )
        self._process = subprocess.Popen(
            [_ROOT / _LITELLM / "bin" / "python", "-m", "benchmarks.litellm_hits"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def hit(self, _: object) -> None:
        self._process.stdin.write("hit\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()


def _first_byte(stack: ExitStack) -> Contest:
    server = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stream_server"], stdout=subprocess.PIPE, text=True
        )
    )
    stack.callback(server.terminate)
    address = server.stdout.readline().strip()
    turn = itertools.count()
    clients = {
        name: openai.OpenAI(api_key="none", base_url=address, http_client=stack.enter_context(http))
        for name, http in (
            ("SDK alone", httpx2.Client()),
            ("askonce, memory", askonce.http_client("memory://")),
        )
    }

    def first_bytes(contender: Contender) -> float:
        """Time the way to the first chunk alone; the rest is read, so that connections stay."""
        create = clients[contender.name].chat.completions.create
        seconds = 0.0
        for _ in range(_STREAMS):
            question = [{"role": "user", "content": f"question {next(turn)}"}]
            begin = time.perf_counter()
            stream = create(model="m", messages=question, stream=True)
            next(stream)
            seconds += time.perf_counter() - begin
            for _ in stream:
                pass
        return seconds

    return Contest(
        "First byte of a streamed answer that is not stored",
        "µs",
        [Contender(name, lambda _: None) for name in clients],
        [Comparison("askonce, memory", "SDK alone", 1 / 1.02)],
        units=_STREAMS,
        measure=first_bytes,
    )


def _langchain() -> Contest:
    model = FakeListChatModel(responses=[TEXT], cache=InMemoryCache())
    ours = {
        name: cached(FakeListChatModel(responses=[TEXT]), store=store)
        for name, store in (("memory", "memory://"),)
    }
    question = MESSAGES[1]["content"]
    return Contest(
        "LangChain: invoke on a hit",
        "µs per invoke",
        [
            Contender("LangChain InMemoryCache", lambda _: model.invoke(question)),
            *(
                Contender(f"cached(model), {name}", lambda _, wrapped=wrapped: wrapped.invoke(question))
                for name, wrapped in ours.items()
            ),
        ],
        [
            Comparison(f"cached(model), {name}", "LangChain InMemoryCache", 1 / 1.3)
            for name in ours
        ],
    )
