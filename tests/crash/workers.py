"""What the processes of the crash test do, by name: write and report, or check what was reported.

A worker has two functions. `write` opens the store and goes on for ever; it reports each name
once what it stands for was said to be stored. `check` is called in a new process: every name must be
there and right. To crash something else, add a row to `WORKERS`.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from askonce import EmbeddingCache, Event, open_store
from askonce.core import entry
from askonce.integrations.langchain import StoreCache

Report = Callable[[list[str]], None]

DIMENSIONS = 256


@dataclass(frozen=True)
class Worker:
    write: Callable[[str, int, Report], None]
    check: Callable[[str, list[str]], None]


def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)


def write_embeddings(url: str, seed: int, report: Report) -> None:
    """Embed new texts, some of them together with old ones; report batch by batch."""
    chance = random.Random(seed)
    asked: list[str] = []
    done: list[str] = []

    def embed(texts: list[str]) -> list[np.ndarray]:
        asked[:] = texts
        return [vector_of(text) for text in texts]

    def observe(event: Event) -> None:
        if event.kind == "stored":
            assert event.count == len(asked)
            report(asked)
        assert event.kind != "store_failed", event.error

    cache = EmbeddingCache(embed, model="m", store=url, batch_size=7, observe=observe)
    for turn in itertools.count():
        new = [f"{seed}-{turn}-{part}" for part in range(chance.randint(1, 20))]
        old = chance.sample(done, min(3, len(done)))
        cache.embed(chance.sample(new + old, len(new + old)))
        done += new


def check_embeddings(url: str, names: list[str]) -> None:
    """Embed again without a model to ask."""

    def embed(texts: list[str]) -> None:
        raise AssertionError(f"stored, but not there: {texts}")

    events: list[Event] = []
    with open_store(url) as store:
        cache = EmbeddingCache(embed, model="m", store=store, observe=events.append)
        found = cache.embed(names)
        assert all(event.kind == "hit" for event in events), events
        assert (found == np.array([vector_of(name) for name in names])).all()


def answer_to(prompt: str) -> str:
    return f"the answer to {prompt} " * (1 + len(prompt) % 40)


def write_answers(url: str, seed: int, report: Report) -> None:
    """Store LangChain's chat answers, one after the other."""
    def observe(event: Event) -> None:
        assert event.kind != "store_failed", event.error

    cache = StoreCache(url, observe=observe)
    for turn in itertools.count():
        prompt = f"{seed}-{turn}"
        cache.update(prompt, "model", [ChatGeneration(message=AIMessage(answer_to(prompt)))])
        report([prompt])


def check_answers(url: str, names: list[str]) -> None:
    with open_store(url) as store:
        cache = StoreCache(store)
        for prompt in names:
            found = cache.lookup(prompt, "model")
            assert found is not None, f"stored, but not there: {prompt}"
            assert [generation.text for generation in found] == [answer_to(prompt)]


def write_over(url: str, seed: int, report: Report) -> None:
    """Write over a few keys again and again, with values of many sizes."""
    chance = random.Random(seed)
    with open_store(url) as store:
        for turn in itertools.count():
            batch = {f"over/{part}": value_of(f"{seed}-{turn}", part, chance) for part in range(5)}
            store.write(batch)
            report([f"{seed}-{turn}"])


def value_of(name: str, part: int, chance: random.Random) -> bytes:
    return entry.pack(entry.Entry(f"{name}/{part}/".encode() * chance.randint(1, 3000), 16, 0.0))


def check_over(url: str, names: list[str]) -> None:
    """Expect in each key a whole value, of the last report or of a write after it."""
    newest: dict[int, int] = {}
    for name in names:
        seed, turn = map(int, name.split("-"))
        newest[seed] = max(turn, newest.get(seed, -1))
    with open_store(url) as store:
        for part, value in enumerate(store.read([f"over/{part}" for part in range(5)])):
            found = entry.unpack(value or b"")
            assert found is not None, value
            name, its_part, *_ = found.payload.decode().split("/")
            assert found.payload == f"{name}/{part}/".encode() * (
                len(found.payload) // len(f"{name}/{part}/")
            )
            seed, turn = map(int, name.split("-"))
            assert turn >= newest.get(seed, -1), (name, newest)


WORKERS = {
    "answers": Worker(write_answers, check_answers),
    "embeddings": Worker(write_embeddings, check_embeddings),
    "overwrites": Worker(write_over, check_over),
}


def values_of(url: str) -> Iterator[bytes]:
    """Give everything that a store holds."""
    with open_store(url) as store:
        keys = list(store.keys())
        for value in store.read(keys):
            assert value is not None
            yield value
