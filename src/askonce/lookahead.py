"""Work on a long stream of items window by window: a few at once, results in order."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut a stream into lists of `size`, the last one shorter."""
    source = iter(items)
    while window := list(itertools.islice(source, size)):
        yield window


def in_order(
    work: Callable[[list[Item]], Result], items: Iterable[Item], *, size: int, at_once: int
) -> Iterator[Result]:
    """Do the work on up to `at_once` windows in threads and give the results in order.

    At most `at_once` windows beyond the one given out are held. An error comes in its turn; what
    is under way then is finished, the rest is not begun.
    """
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="askonce-ahead")
    under_way: deque[Future[Result]] = deque()
    try:
        for window in windows(items, size):
            under_way.append(pool.submit(work, window))
            if len(under_way) > at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def ain_order(
    work: Callable[[list[Item]], Awaitable[Result]],
    items: Iterable[Item],
    *,
    size: int,
    at_once: int,
) -> AsyncIterator[Result]:
    """Do the work on up to `at_once` windows in tasks and give the results in order."""
    under_way: deque[asyncio.Future[Result]] = deque()
    try:
        for window in windows(items, size):
            under_way.append(asyncio.ensure_future(work(window)))
            if len(under_way) > at_once:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
