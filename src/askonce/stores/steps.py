"""What a layer over stores does step by step, written once for both colours.

A plan is a generator that yields what some object is to do and is sent what came of it. `run`
calls the verb; `arun` awaits its twin with an `a` in front, or calls the verb on a thread.
"""

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from askonce.core.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Do:
    """Ask an object to do what one of its verbs does."""

    of: Any
    verb: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


Plan = Generator[Do, Any, T]


def do(of: object, verb: str, *arguments: Any, **options: Any) -> Do:
    """Write a step as a call is written."""
    return Do(of, verb, arguments, options)


class _Rest:
    """Let time pass, in both colours."""

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    async def arest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_REST = _Rest()


def rest(seconds: float) -> Do:
    """Write the step that lets some time pass."""
    return do(_REST, "rest", seconds)


class _Listing:
    """List a store's keys at once, in both colours."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, prefix: str) -> Sequence[str]:
        return [*self._store.keys(prefix)]

    async def alist(self, prefix: str) -> Sequence[str]:
        return [key async for key in self._store.akeys(prefix)]


def list_keys(store: Store, prefix: str) -> Do:
    """Write the step that lists keys."""
    return do(_Listing(store), "list", prefix)


def run(plan: Plan[T]) -> T:
    """Carry out a plan in this thread and give its result."""
    try:
        step = next(plan)
        while True:
            try:
                outcome = getattr(step.of, step.verb)(*step.arguments, **step.options)
            except BaseException as error:  # noqa: BLE001  the plan decides about it
                step = plan.throw(error)
            else:
                step = plan.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result


async def arun(plan: Plan[T]) -> T:
    """Carry out a plan in this event loop and give its result."""
    try:
        step = next(plan)
        while True:
            try:
                twin = getattr(step.of, "a" + step.verb, None)
                if twin is None:
                    verb = getattr(step.of, step.verb)
                    outcome = await asyncio.to_thread(verb, *step.arguments, **step.options)
                else:
                    outcome = await twin(*step.arguments, **step.options)
            except BaseException as error:  # noqa: BLE001  the plan decides about it
                step = plan.throw(error)
            else:
                step = plan.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result
