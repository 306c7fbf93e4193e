"""What the gateway costs: hits, the delay of a miss, and a thousand streams at once.

- **Hit**: one answer of 1.6 kB, asked for by 16 clients over connections that are kept; one worker,
  SQLite. Against a bare ASGI application on the same server (uvicorn, httptools, uvloop, with the
  same settings) that gives the same bytes whatever it is asked, and reads nothing. And against the
  proxy of LiteLLM with its in-process cache, one worker, in an environment of its own. uvicorn was
  chosen by this table too: granian has the same two applications beside.
- **Hit, streamed**: the same answer in 23 events, each sent by itself.
- **Miss**: what asking through the gateway adds to asking the provider directly. Each question is
  new, and is asked once here and once there, in turns. The provider answers at once for one client;
  where 8 ask at the same moment, it takes 20 ms, as a provider that is quick would.
- **Streams**: 1,000 of them at once through one worker, 100 more each second, an event in each every
  200 ms for 20 seconds, against the same streams without the gateway. Each stream's text is checked,
  and that it has come to its end.

Whoever serves has a core to itself; the load generator and the provider share another one. Every
response is compared with what it must be.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.frame import Comparison, Contender, Contest
from benchmarks.gateway_load import question
from benchmarks.gateway_processes import (
    SERVING,
    Load,
    Provider,
    askonce,
    configured,
    hello,
    litellm,
    resident,
    serve,
)
from benchmarks.gateway_upstream import digest

TITLE = "The gateway: hits, misses, streams"
PACKAGES = ("uvicorn", "httptools", "uvloop", "granian", "httpx2")
_WORK = Path(__file__).parent.parent / ".cache"
_PROMPT = "Why is the sky blue, and not violet?"

_CLIENTS = 16
_SECONDS = 2.5
_MISSES = 400

_STREAMS = 1000
_A_SECOND = 100
_EVENTS = 100
_PAUSE = 0.2
_STREAM_ROUNDS = 3
_MOST_MEMORY = 128 * 1024

_PYTHON = (sys.executable, "-m")
_GRANIAN = (
    *(*_PYTHON, "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "PORT"),
    *("--workers", "1", "--http", "1", "--loop", "uvloop", "--no-ws", "--backlog", "2048"),
    *("--log-level", "critical"),
)

ASKONCE, BARE, LITELLM = "askonce", "bare application", "LiteLLM"
_ALLOWED = {"median": 1e-3, "P99": 5e-3}
_runs = itertools.count()


class AtOnce:
    """Take several measures at once, and give each to whoever asks for it by name."""

    def __init__(self, take: Callable[[], dict[str, float]]) -> None:
        self._take = take
        self._fresh: dict[str, float] = {}

    def __call__(self, contender: Contender) -> float:
        if contender.name not in self._fresh:
            self._fresh = self._take()
        return self._fresh.pop(contender.name)


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their servers live as long as they are needed."""
    _WORK.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_WORK)))
        load, provider = Load(stack), Provider(stack)
        for group in (_hits, _streamed_hits, _misses, _streams):
            with ExitStack() as servers:
                yield from group(servers, folder, load, provider)


def _hits(stack: ExitStack, folder: Path, load: Load, provider: Provider) -> Iterator[Contest]:
    content = question(_PROMPT)
    running = askonce(stack, folder / "hits", provider.address)
    said = str(hello(folder, running, content))
    told = {"path": str(configured(folder / "granian", provider.address)), "overrides": {}}
    bare, ours = "benchmarks.gateway_hello", "askonce.gateway.serving:application"
    places = {
        BARE: serve(stack, *_PYTHON, bare, "PORT", cores=SERVING, HELLO=said),
        f"{BARE}, granian": serve(
            stack, *_GRANIAN, f"{bare}:application", cores=SERVING, HELLO=said
        ),
        ASKONCE: running.address,
        f"{ASKONCE}, granian": serve(
            stack,
            *(*_GRANIAN, "--factory", ours),
            cores=SERVING,
            path="/healthz",
            ASKONCE_SERVE=json.dumps(told),
        ),
        LITELLM: litellm(stack, folder, provider.address),
        f"{LITELLM}, granian": litellm(stack, folder, provider.address, "--run_granian"),
    }
    yield _throughput(
        "Hit",
        load,
        places,
        content,
        [
            Comparison(f"{BARE}, granian", BARE),
            Comparison(ASKONCE, BARE, 0.6),
            Comparison(ASKONCE, LITELLM, 15),
            Comparison(ASKONCE, f"{LITELLM}, granian", 15),
            Comparison(f"{ASKONCE}, granian", ASKONCE),
        ],
    )


def _streamed_hits(
    stack: ExitStack, folder: Path, load: Load, provider: Provider
) -> Iterator[Contest]:
    content = question(_PROMPT, stream=True)
    running = askonce(stack, folder / "streamed", provider.address)
    said = str(hello(folder, running, content))
    bare = serve(stack, *_PYTHON, "benchmarks.gateway_hello", "PORT", cores=SERVING, HELLO=said)
    places = {BARE: bare, ASKONCE: running.address}
    yield _throughput("Hit, streamed", load, places, content, [Comparison(ASKONCE, BARE)])


def _throughput(
    title: str,
    load: Load,
    places: Mapping[str, str],
    content: bytes,
    comparisons: Sequence[Comparison],
) -> Contest:
    def measure(contender: Contender) -> float:
        found = load.do(
            "hammer",
            address=places[contender.name],
            content=content.decode(),
            clients=_CLIENTS,
            seconds=_SECONDS,
            # A stream's events hold its text in pieces.
            holds=digest(_PROMPT)[:16],
        )
        return found["seconds"] / found["count"]

    return Contest(title, "µs per hit", _contenders(places), comparisons, measure=measure)


def _misses(stack: ExitStack, folder: Path, load: Load, provider: Provider) -> Iterator[Contest]:
    running = askonce(stack, folder / "misses", provider.address)
    places = {"direct": provider.address, "through": running.address}
    for clients, delay, title in ((1, 0.0, "one at a time"), (8, 0.02, "8 at once")):
        provider.set(delay=delay)

        def take(clients: int = clients) -> dict[str, float]:
            requests = _MISSES // clients
            run = str(next(_runs))
            return _delays(
                load.do("misses", addresses=places, clients=clients, requests=requests, run=run)
            )

        yield _delay(f"Miss, {title}", take)
    provider.set(delay=0.0)


def _streams(stack: ExitStack, folder: Path, load: Load, provider: Provider) -> Iterator[Contest]:
    provider.set(events=_EVENTS, pause=_PAUSE)
    memory: list[dict[str, float]] = []
    refused: list[dict[str, float]] = []

    def begin(address: str) -> None:
        run = str(next(_runs))
        load.begin("streams", address=address, number=_STREAMS, rate=_A_SECOND, run=run)

    def take() -> dict[str, float]:
        begin(provider.address)
        direct = load.result()
        # Each time another process: memory that was used once is not always given back.
        with ExitStack() as servers:
            running = askonce(servers, folder / f"streams-{next(_runs)}", provider.address)
            pid = running.process.pid
            before = resident(pid)
            begin(running.address)
            # Halfway between the moments when the last begins and when the first ends.
            time.sleep((_STREAMS / _A_SECOND + _EVENTS * _PAUSE) / 2)
            during = resident(pid)
            through = load.result()
            memory.append({"before": before, "while they are open": during, "after": resident(pid)})
        refused.append({"direct": direct["refused"], "through": through["refused"]})
        return _delays({"direct": direct["first"], "through": through["first"]})

    yield _delay("First byte, 1,000 streams", take, rounds=_STREAM_ROUNDS)
    if not memory:
        return
    yield Contest(
        "Streams that were refused or cut, of 1,000",
        "streams",
        _contenders(refused[0]),
        [],
        scale=1,
        rounds=_STREAM_ROUNDS,
        measure=AtOnce(lambda: refused.pop(0)),
    )
    needed = [(one["while they are open"] - one["before"]) / _STREAMS for one in memory]
    yield Contest(
        "Memory of the worker, 1,000 streams",
        "MB",
        _contenders(memory[0]),
        [],
        scale=1e-6,
        rounds=_STREAM_ROUNDS,
        measure=AtOnce(lambda: memory.pop(0)),
    )
    yield Contest(
        "Memory for each stream",
        "kB",
        _contenders(["a stream", "the most allowed"]),
        [Comparison("a stream", "the most allowed", 1)],
        scale=1e-3,
        rounds=_STREAM_ROUNDS,
        measure=AtOnce(lambda: {"a stream": needed.pop(0), "the most allowed": _MOST_MEMORY}),
    )


def _delays(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Give medians and 99th percentiles, and what the gateway adds to each."""
    given: dict[str, float] = {}
    for which, place in (("median", 50), ("P99", 99)):
        for name, seconds in found.items():
            given[f"{name}, {which}"] = statistics.quantiles(seconds, n=100)[place - 1]
        added = given[f"through, {which}"] - given[f"direct, {which}"]
        # On a noisy machine a difference may come out below nothing.
        given[f"added, {which}"] = max(added, 1e-6)
        given[f"the most allowed, {which}"] = _ALLOWED[which]
    return given


def _delay(title: str, take: Callable[[], dict[str, float]], rounds: int | None = None) -> Contest:
    return Contest(
        title,
        "ms",
        _contenders(_delays({"direct": [0.0] * 2, "through": [0.0] * 2})),
        [Comparison(f"added, {which}", f"the most allowed, {which}", 1) for which in _ALLOWED],
        scale=1e3,
        rounds=rounds,
        measure=AtOnce(take),
    )


def _contenders(names: Iterator[str] | Sequence[str] | Mapping[str, object]) -> list[Contender]:
    return [Contender(name, lambda _: None) for name in names]
