"""Copying from another cache: what a source offers, and the copying itself."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from askonce.core import entry, flow
from askonce.core.policy import is_fresh
from askonce.core.store import Store
from askonce.errors import StoreError

AT_ONCE = 300


class Unreadable(Exception):  # noqa: N818  it is the finding of a reader, not an error of ours
    """Say why something in a source cannot be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """Be one thing to copy: where it comes from, its key, and how to read it as an entry.

    `load` raises Unreadable; it is not called for what is there already.
    """

    origin: str
    key: str
    load: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Problem:
    """Tell what could not be copied, and why."""

    origin: str
    reason: str


class Source(Protocol):
    """Be a cache to copy from, never written to."""

    def count(self) -> int:
        """Count what there is, for the progress bar."""
        ...

    def items(self) -> Iterator[Item | Problem]:
        """Give everything there is, a little at a time."""
        ...


@dataclass
class Outcome:
    """Count what became of the items."""

    migrated: int = 0
    there: int = 0
    unreadable: int = 0


@dataclass
class Copy:
    """Copy items into a store, batch by batch.

    `tell` hears of each problem, `advance` of the number of items done with.
    """

    store: Store
    tell: Callable[[Problem], None]
    advance: Callable[[int], None]
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, source: Source) -> None:
        """Copy what is not there yet. Raises StoreError if the store takes nothing."""
        found = source.items()
        while batch := list(itertools.islice(found, AT_ONCE)):
            items: list[Item] = []
            for one in batch:
                if isinstance(one, Problem):
                    self._refuse(one)
                else:
                    items.append(one)
            if items:
                self._copy_batch(items)
            self.advance(len(batch))

    def _copy_batch(self, items: Sequence[Item]) -> None:
        try:
            self._copy(items)
        except StoreError as error:
            self._copy_singly(items, error)

    def _copy_singly(self, items: Sequence[Item], error: StoreError) -> None:
        """Find which items a store does not take, for instance because of too long a key."""
        problems: list[Problem] = []
        for item in items:
            try:
                self._copy([item])
            except StoreError as own:
                problems.append(Problem(item.origin, f"the store does not take it: {own}"))
        if len(problems) == len(items):
            raise error
        for problem in problems:
            self._refuse(problem)

    def _copy(self, items: Sequence[Item]) -> None:
        fresh: dict[str, bytes] = {}
        problems: list[Problem] = []
        there = 0
        have = self.store.read([item.key for item in items])
        for item, blob in zip(items, have, strict=True):
            if item.key in fresh or (blob is not None and _is_good(blob)):
                there += 1
                continue
            try:
                fresh[item.key] = item.load()
            except Unreadable as error:
                problems.append(Problem(item.origin, str(error)))
        if fresh:
            self.store.write(fresh)
        self.outcome.migrated += len(fresh)
        self.outcome.there += there
        for problem in problems:
            self._refuse(problem)

    def _refuse(self, problem: Problem) -> None:
        self.outcome.unreadable += 1
        self.tell(problem)


def _is_good(blob: bytes) -> bool:
    """Tell whether a store's value needs no replacing: a good entry, or a vector of LangChain's."""
    found = entry.unpack(blob)
    if found is None:
        return blob.startswith(b"[") and blob.endswith(b"]")
    return is_fresh(found.expires, now=flow.now())
