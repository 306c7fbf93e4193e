"""A gateway of two workers over a Redis, for minutes on end, while all that can fails around it.

32 clients ask as fast as they get answers: what was asked before, what is new, streams, embeddings,
the same at the same moment, and some go away in the middle. Meanwhile the provider answers 429 and
500, says nothing at all, and breaks answers off; the store stands still for seconds (SIGSTOP); the
younger worker is killed (SIGKILL). Every answer carries the digest of its question, and is checked.

An answer is kept for certain if it was once given from the store, or if neither store nor worker
was in trouble when it was given whole. In the end a sample of these is asked again.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from benchmarks.gateway_load import Connection
from benchmarks.gateway_processes import Provider, configured
from benchmarks.machine import machine_lines
from benchmarks.report import drawing, head
from benchmarks.soak_clients import Clients
from benchmarks.soak_workers import Holding, holding, hook, memory, workers
from tests.gateway.running import gateway
from tests.servers.redis import PROGRAMS, RedisServer

PACKAGES = ("uvicorn", "httptools", "uvloop", "httpx2", "redis")
FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"
_WORK = Path(__file__).parent.parent / ".cache"
_CLIENTS = 32
_FAULTS = {"429": 0.01, "500": 0.01, "hang": 0.002, "cut": 0.02}
_STANDS_STILL = 3.0
_AFTERWARDS = 5.0
"""Seconds after a trouble in which what is answered is not kept for certain."""

_SAMPLE = 2000
_GROWTH = 1.1
_SPARE = 8
KILLED, STOPPED = "a worker was killed", "the store stood still"
SLOW = "besides, the gateway found the store too slow (more than 50 ms)"
_IDLE = 6.0
"""Seconds after which the provider has closed connections that nobody used."""


@dataclass(frozen=True)
class Check:
    """Hold what was looked at, what was found, and whether it may be so."""

    what: str
    found: str
    wanted: str
    met: bool


class Soak:
    """Be one run."""

    def __init__(self, seconds: float, server: RedisServer, provider: Provider) -> None:
        self.seconds = seconds
        self.server = server
        self.provider = provider
        self.memory: list[tuple[float, dict[int, int]]] = []
        self.faults = {KILLED: 0, STOPPED: 0, SLOW: 0}
        self.checks: list[Check] = []
        self.rate = 0.0
        self.in_trouble = False

    async def run(self, running: Any, folder: Path) -> None:
        self.clients = Clients(running.address, _CLIENTS, seed=1)
        self.running = running
        self.parent, self.folder = running.process.pid, folder
        self.began = time.monotonic()
        watching = asyncio.ensure_future(self._watch())
        # A first part warms up, and then shows what a worker holds at rest.
        busy = await self._under_load(self.seconds * 0.2)
        before = await self._rest()
        busy += await self._under_load(self.seconds * 0.8)
        after = await self._rest()
        watching.cancel()
        self.rate = sum(self.clients.record.outcomes.values()) / busy
        await self._judge(before, after)

    async def _under_load(self, seconds: float) -> float:
        began = time.monotonic()
        self.provider.set(faults=_FAULTS)
        self.clients.start()
        troubles = asyncio.ensure_future(self._troubles(began + seconds))
        await troubles
        await self.clients.stop()
        self.provider.set(faults={})
        return time.monotonic() - began

    async def _troubles(self, until: float) -> None:
        """Stop the store and kill a worker in turns, all in all some ten times in ten minutes."""
        pause = max(10.0, self.seconds / 20)
        turn = 0
        while time.monotonic() + pause + _STANDS_STILL + _AFTERWARDS < until:
            await asyncio.sleep(pause)
            began = time.monotonic()
            self.in_trouble = True
            if turn % 2:
                *_, youngest = workers(self.parent)
                os.kill(youngest, signal.SIGKILL)
                self.faults[KILLED] += 1
            else:
                with self.server.paused():
                    await asyncio.sleep(_STANDS_STILL)
                self.faults[STOPPED] += 1
            await asyncio.sleep(_AFTERWARDS)
            self.in_trouble = False
            self.clients.record.troubled.append((began - 1.0, time.monotonic()))
            turn += 1
        await asyncio.sleep(max(0.0, until - time.monotonic()))

    async def _watch(self) -> None:
        """Look at the memory every second, and hear when the gateway does without its store."""
        heard = 0
        while True:
            now = time.monotonic()
            told = [line for line in self.running.log[heard:] if line.startswith("the store ")]
            heard = len(self.running.log)
            if told and not self.in_trouble:
                # A busy machine is not what is looked at here, but it must not be held against
                # the gateway either.
                self.faults[SLOW] += len(told)
                self.clients.record.troubled.append((now - 3.0, now + 2.0))
            self.memory.append((now - self.began, memory(self.parent)))
            await asyncio.sleep(1.0)

    async def _rest(self) -> dict[int, Holding]:
        """Let all that is idle be closed; tell what the workers hold then."""
        for number in range(2):
            await asyncio.sleep(_IDLE)
            # Connections that were closed are found by whoever asks next, in each worker.
            await asyncio.gather(*(self._once(f"rest {number} {one}") for one in range(32)))
        await asyncio.sleep(1.0)
        ports = {
            _port(self.running.address): "clients",
            _port(self.provider.address): "provider",
            self.server.port: "store",
        }
        return {pid: holding(pid, self.folder, ports) for pid in workers(self.parent)}

    async def _once(self, prompt: str) -> None:
        prompt = f"{prompt} {time.monotonic()}"
        connection = await Connection.open(self.clients.address)
        await self.clients.ask(connection, prompt, stream=False)
        connection.close()

    async def _judge(self, before: dict[int, Holding], after: dict[int, Holding]) -> None:
        record = self.clients.record
        record.settle()
        self._check("wrong answers, fragments, hung requests", len(record.wrong), 0)
        own = sum(
            number for name, number in record.outcomes.items() if name.startswith("an error of")
        )
        self._check("errors of the gateway's own", own, 0)
        broken = record.outcomes["broken off"]
        cuts = self.provider.counts.get("cut", 0)
        most = cuts + self.faults[KILLED] * _CLIENTS
        self._check(
            "answers broken off more often than provider and workers", max(0, broken - most), 0
        )
        lost, asked = await self._ask_again()
        self._check("kept answers that were lost, of a sample", lost, 0)
        self._check("requests to the provider for that sample", asked, 0)
        held = list(after.values())
        self._check(
            "connections of clients at rest", max(h.connections["clients"] for h in held), 0
        )
        for whom, most in (
            ("provider", _CLIENTS),
            ("store", 2 * _CLIENTS),
        ):
            self._at_most(
                f"connections to the {whom}, of a worker at rest",
                max(h.connections[whom] for h in held),
                most,
            )
        for what, of in (
            ("tasks", lambda one: sum(one.tasks.values())),
            ("file descriptors", lambda one: one.descriptors - sum(one.connections.values())),
        ):
            self._at_most(
                f"{what} of a worker at rest, against the first rest",
                max(map(of, held)),
                max(map(of, before.values())),
                spare=0,
            )
        self.tasks = [one.tasks for one in held]
        self._grown()

    def _check(self, what: str, found: int, most: int) -> None:
        self.checks.append(Check(what, f"{found:,}", f"{most}", found <= most))

    def _at_most(self, what: str, found: int, most: int, *, spare: int = _SPARE) -> None:
        wanted = f"≤ {most} + {spare}" if spare else f"≤ {most}"
        self.checks.append(Check(what, str(found), wanted, found <= most + spare))

    def _grown(self) -> None:
        """Compare the oldest worker's memory, a third of the time after the start and at the end."""
        (pid, *_) = workers(self.parent)
        sizes = [(when, held[pid]) for when, held in self.memory if pid in held]
        whole = sizes[-1][0]
        early = statistics.median(size for when, size in sizes if 0.3 <= when / whole < 0.5)
        late = statistics.median(size for when, size in sizes if when / whole >= 0.8)
        self.checks.append(
            Check(
                "memory of the older worker in the last fifth, against that from 30 % to 50 %",
                f"{late / 1e6:.1f} MB / {early / 1e6:.1f} MB = {late / early:.2f}",
                f"≤ {_GROWTH}",
                late / early <= _GROWTH,
            )
        )

    async def _ask_again(self) -> tuple[int, int]:
        """Ask a sample of what must have been kept; tell what was lost, and what was asked for."""
        record = self.clients.record
        source = random.Random(2)
        prompts = source.sample(list(record.kept), min(_SAMPLE, len(record.kept)))
        texts = source.sample(list(record.vectors), min(_SAMPLE, len(record.vectors)))
        self.sample = len(prompts), len(record.kept), len(texts), len(record.vectors)
        asked = self.provider.requests
        lost = 0
        connection = await Connection.open(self.clients.address)
        for place, prompt in enumerate(prompts):
            outcome = await self.clients.ask(connection, prompt, stream=place % 2 == 1)
            lost += outcome != "hit"
        before = self.provider.requests
        for start in range(0, len(texts), 10):
            await self.clients.embed(connection, texts[start : start + 10])
        lost += self.provider.requests - before
        connection.close()
        return lost, self.provider.requests - asked


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the page is written")
    options = parser.parse_args(arguments)
    _WORK.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_WORK)))
        server = RedisServer(PROGRAMS["redis8"])
        stack.callback(server.remove)
        server.start()
        provider = Provider(stack, cores=os.sched_getaffinity(0), KEEP_ALIVE="5")
        config = configured(folder, provider.address, store=server.url(), more="timeout = 3")
        environment = hook(folder / "hook")
        running = stack.enter_context(gateway(config, "--workers", "2", **environment))
        soak = Soak(options.minutes * 60, server, provider)
        uvloop.run(soak.run(running, folder / "hook"))
        counts = dict(provider.counts)
    lines = _lines(soak, counts, options.minutes)
    Console(width=None if sys.stdout.isatty() else 140).print("\n".join(lines), markup=False)
    for problem in soak.clients.record.wrong[:5]:
        print("wrong:", problem)
    if not all(check.met for check in soak.checks):
        print("tasks at the end:", soak.tasks)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "soak.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _chart(options.folder / "soak.svg", soak)


def _lines(soak: Soak, counts: dict[str, int], minutes: float) -> list[str]:
    record = soak.clients.record
    command = "scripts/bench soak" + ("" if minutes == 10 else f" --minutes {minutes:g}")
    hits = statistics.quantiles(record.hits, n=100)
    met = sum(check.met for check in soak.checks)
    prompts, all_prompts, texts, all_texts = soak.sample
    lines = [
        *head("A soak of the gateway", __doc__, command, machine_lines(PACKAGES)),
        f"{met} of {len(soak.checks)} goals met.",
        "",
        "![Memory of the workers over time](soak.svg)",
        "",
        "## What was looked at",
        "",
        "| what | found | goal | met |",
        "|---|--:|---|---|",
        *(
            f"| {c.what} | {c.found} | {c.wanted} | {'yes' if c.met else 'NO'} |"
            for c in soak.checks
        ),
        "",
        f"The sample was {prompts:,} of {all_prompts:,} chat answers and {texts:,} of {all_texts:,} vectors.",
        "",
        "## What the clients got",
        "",
        f"{soak.rate:,.0f} requests a second, load generator and provider on the same cores; a hit took "
        f"{hits[49] * 1e3:.1f} ms (median), {hits[98] * 1e3:.0f} ms (P99).",
        "",
        "| what | how often |",
        "|---|--:|",
        *(f"| {name} | {number:,} |" for name, number in record.outcomes.most_common()),
        "",
        "## What failed around it",
        "",
        "| what | how often |",
        "|---|--:|",
        *(f"| {name} | {number} |" for name, number in soak.faults.items()),
        *(f"| the provider: {name} | {counts.get(name, 0):,} |" for name in _FAULTS),
        f"| requests to the provider, all in all | {counts['requests']:,} |",
    ]
    return lines


def _chart(path: Path, soak: Soak) -> None:
    """Draw the memory of each worker over time."""
    with drawing(path, 10, 3) as axes:
        for pid in dict.fromkeys(pid for _, held in soak.memory for pid in held):
            points = [(when / 60, held[pid] / 1e6) for when, held in soak.memory if pid in held]
            axes.plot(*zip(*points, strict=True))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
        axes.set_ylabel("MB resident")
        axes.set_title("Memory of the workers; a new line is a worker that replaces a killed one")
