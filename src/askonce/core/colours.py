"""Functions of both colours, sync and async, each made usable from the other."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any


def blocking(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a function, sync or async, one that a thread can call."""
    if not is_async(function):
        return function

    def call(argument: Any) -> Any:
        return run_coroutine(function(argument))

    return call


def awaitable(function: Callable[..., Any]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Make a function, sync or async, one that an event loop can await."""
    if is_async(function):
        return function

    async def call(argument: Any) -> Any:
        return await asyncio.to_thread(function, argument)

    return call


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling this gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an instance with an async __call__
    )


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end from sync code, also inside a running event loop."""
    outcome: Future[Any] = Future()

    async def keep_outcome() -> None:
        # Not a task's result: asyncio.run writes that into a message which nobody reads.
        outcome.set_result(await coroutine)

    def work() -> None:
        try:
            asyncio.run(keep_outcome())
        except BaseException as error:
            outcome.set_exception(error)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(keep_outcome())
        return outcome.result()

    thread = threading.Thread(target=work, name="askonce-coroutine")
    thread.start()
    thread.join()
    return outcome.result()
