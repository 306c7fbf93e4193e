"""Callers in both colours, and many of them at once."""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from askonce.core.store import Store


class CallerTests:
    """Prove that callers of any colour, loop and thread share one store."""

    def test_written_in_one_colour_and_read_in_the_other(self, store: Store) -> None:
        store.write({"a/1": b"sync"})
        assert asyncio.run(store.aread(["a/1", "a/2"])) == [b"sync", None]
        asyncio.run(store.awrite({"a/1": b"async", "a/2": b"two"}))
        assert store.read(["a/1", "a/2"]) == [b"async", b"two"]
        asyncio.run(store.adelete(["a/1"]))
        assert store.read(["a/1", "a/2"]) == [None, b"two"]
        store.delete(["a/2"])
        assert asyncio.run(store.aread(["a/1", "a/2"])) == [None, None]

    def test_one_store_in_two_event_loops(self, store: Store) -> None:
        async def use(name: str) -> list[bytes | None]:
            await store.awrite({f"a/{name}": name.encode()})
            return await store.aread(["a/first", "a/second"])

        assert asyncio.run(use("first")) == [b"first", None]
        assert asyncio.run(use("second")) == [b"first", b"second"]

    def test_many_tasks_at_once(self, store: Store) -> None:
        async def use(number: int) -> bool:
            entries = {f"a/{number}-{part}": bytes([number, part]) for part in range(5)}
            await store.awrite(entries)
            return await store.aread(list(entries)) == list(entries.values())

        async def all_of_them() -> list[bool]:
            return await asyncio.gather(*map(use, range(40)))

        assert all(asyncio.run(all_of_them()))
        assert len(list(store.keys())) == 200

    def test_a_cancelled_task_leaves_the_store_usable(self, store: Store) -> None:
        async def cancel() -> None:
            task = asyncio.create_task(store.awrite({"a/cancelled": b"x" * 100_000}))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.awrite({"a/after": b"after"})

        asyncio.run(cancel())
        assert store.read(["a/after"]) == [b"after"]
        assert store.read(["a/cancelled"])[0] in {None, b"x" * 100_000}

    def test_many_threads_at_once(self, store: Store) -> None:
        def work(thread: int) -> None:
            for turn in range(20):
                mine = {f"a/{thread}-{part}": f"{thread}-{turn}".encode() for part in range(3)}
                store.write(mine)
                assert store.read(list(mine)) == list(mine.values())
                assert all(key.startswith("a/") for key in store.keys("a/"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(list(store.keys())) == 24

    def test_a_value_is_never_seen_half_written(self, store: Store) -> None:
        values = [bytes([number]) * (1 + number * 9_000) for number in range(8)]
        store.write({"a/1": values[0]})
        stop = threading.Event()

        def rewrite() -> None:
            for turn in itertools.count():
                if stop.is_set():
                    return
                store.write({"a/1": values[turn % len(values)]})

        writer = threading.Thread(target=rewrite)
        writer.start()
        try:
            for _ in range(300):
                assert store.read(["a/1"])[0] in values
        finally:
            stop.set()
            writer.join()
