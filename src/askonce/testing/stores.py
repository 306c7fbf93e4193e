"""What every store must do. A backend's test file inherits `StoreTests` and says how to open it."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from askonce.core import codecs, entry
from askonce.core.store import Store
from askonce.testing.state_machine import run_store_machine

Opener = Callable[[], Store]
"""Opens the store of one test, empty at first; called again, it opens the same one again.

A store that lives and dies with its instance gives that instance each time.
"""

Raw = Callable[[], Mapping[str, bytes]]
"""Reads all that a store keeps, beside the store under test."""

VALUES = {
    "empty": b"",
    "one": b"\0",
    "all": bytes(range(256)),
    "megabyte": bytes(range(256)) * 4096,
    "text": b"ASK1\r\n\x1a\xff",
}
KEYS = {
    "spaces": " leading and trailing ",
    "colon": "qwen3:4b",
    "dots": "a.b..c.",
    "one-dot": ".",
    "two-dots": "..",
    "hidden": ".hidden",
    "percent": "100%",
    "escaped": "%2F%2e%00",
    "wildcards": "a_b*c?d[e]",
    "quotes": "'\";--",
    "backslash": "C:\\temp",
    "tilde": "~root",
    "unicode": "żółć-日本語-🙂",
    "long": "segment" * 40,
    "long-dots": "s" * 200 + "..",
}
LOOKALIKES = [
    "A/a",
    "a/A",
    "a/a",
    "aa/a",
    "a.a/a",
    "a_a/a",
    "a%a/a",
    "a/a%",
    "a/\u00e1",
    "a/a\u0301",
]


class StoreTests:
    """Prove that a store is one: inherit, and give a fixture `opener` (see `Opener`).

    Give a fixture `raw` too (see `Raw`) if the engine can be read without the store's own code:
    then a store that writes and reads wrongly in the same way is caught.
    """

    @pytest.fixture
    def opener(self) -> Opener:
        """Open the store under test. Each backend has its own."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'opener'")

    @pytest.fixture
    def raw(self, opener: Opener) -> Raw:
        """Read through a second instance, where there can be one."""

        def read() -> Mapping[str, bytes]:
            another = opener()
            found = list(another.keys())
            return {
                key: value
                for key, value in zip(found, another.read(found), strict=True)
                if value is not None
            }

        return read

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[Store]:
        """Give the store, empty."""
        store = opener()
        assert list(store.keys()) == [], "opener must open a store that is empty at first"
        yield store
        store.close()

    # One verb after the other

    def test_a_new_store_has_nothing(self, store: Store) -> None:
        assert store.read(["a/a"]) == [None]
        assert list(store.keys("a")) == []
        assert store.clear("") == 0

    def test_reads_what_was_written(self, store: Store, raw: Raw) -> None:
        store.write({"a/1": b"one", "a/2": b"two"})
        assert store.read(["a/1", "a/2"]) == [b"one", b"two"]
        assert raw() == {"a/1": b"one", "a/2": b"two"}

    def test_values_come_in_the_order_of_the_keys(self, store: Store) -> None:
        store.write({f"a/{number}": str(number).encode() for number in range(5)})
        wanted = ["a/3", "a/missing", "a/0", "a/3", "a/missing", "a/4", "a/3"]
        assert store.read(wanted) == [b"3", None, b"0", b"3", None, b"4", b"3"]

    def test_joined_values_are_the_values(self, store: Store) -> None:
        store.write({"a/1": b"one", "a/2": b"two", "a/3": b"three", "a/4": b""})
        for wanted in (
            ["a/1"],
            ["a/2", "a/1", "a/2"],
            ["a/1", "a/3"],
            ["a/1", "a/missing"],
            ["a/missing"],
            ["a/4", "a/4"],
            [],
        ):
            values = store.read(wanted)
            joined = b"".join(value or b"" for value in values)
            assert store.read_joined(wanted) in (values, joined)
            assert asyncio.run(store.aread_joined(wanted)) in (values, joined)
            if len(set(map(len, filter(None, values)))) > 1 or None in values or not wanted:
                assert store.read_joined(wanted) == values

    def test_keys_may_be_any_sequence(self, store: Store) -> None:
        store.write({"a/1": b"one", "a/2": b"two"})
        assert store.read(("a/2", "a/1")) == [b"two", b"one"]
        store.delete(("a/1",))
        assert store.read(["a/1"]) == [None]

    def test_a_write_replaces(self, store: Store, raw: Raw) -> None:
        for value in (b"first", b"", b"much longer than the first", b"x"):
            store.write({"a/1": value, "a/2": b"beside"})
            assert store.read(["a/1"]) == [value]
        assert raw() == {"a/1": b"x", "a/2": b"beside"}

    def test_deletes_and_ignores_what_is_missing(self, store: Store, raw: Raw) -> None:
        store.write({"a/1": b"one", "a/2": b"two", "a/3": b"three"})
        store.delete(["a/1", "a/missing", "b/missing", "a/3", "a/1"])
        assert store.read(["a/1", "a/2", "a/3"]) == [None, b"two", None]
        assert raw() == {"a/2": b"two"}

    def test_writes_again_after_deleting(self, store: Store) -> None:
        store.write({"a/1": b"one"})
        store.delete(["a/1"])
        store.write({"a/1": b"again"})
        assert store.read(["a/1"]) == [b"again"]

    def test_empty_batches_do_nothing(self, store: Store, raw: Raw) -> None:
        store.write({"a/1": b"one"})
        assert store.read([]) == []
        store.write({})
        store.delete([])
        assert asyncio.run(store.aread([])) == []
        asyncio.run(store.awrite({}))
        asyncio.run(store.adelete([]))
        assert raw() == {"a/1": b"one"}

    @pytest.mark.parametrize("name", VALUES)
    def test_keeps_any_bytes(self, store: Store, raw: Raw, name: str) -> None:
        store.write({"a/value": VALUES[name]})
        (found,) = store.read(["a/value"])
        assert found == VALUES[name]
        assert type(found) is bytes
        assert raw() == {"a/value": VALUES[name]}

    @pytest.mark.parametrize("name", KEYS)
    def test_keeps_any_key(self, store: Store, raw: Raw, name: str) -> None:
        segment = KEYS[name]
        entries = {
            f"{segment}/digest": b"first",
            f"a/{segment}/digest": b"middle",
            f"b/{segment}": b"last",
            segment + segment[:1]: b"alone",
        }
        store.write(entries)
        assert store.read(list(entries)) == list(entries.values())
        assert raw() == entries
        assert sorted(store.keys()) == sorted(entries)
        assert list(store.keys(f"{segment}/")) == [f"{segment}/digest"]
        assert list(store.keys(f"a/{segment}/")) == [f"a/{segment}/digest"]
        assert list(store.keys(f"b/{segment}")) == [f"b/{segment}"]
        store.delete([f"b/{segment}"])
        assert f"b/{segment}" not in raw()

    def test_keys_that_look_alike_are_different(self, store: Store, raw: Raw) -> None:
        entries = {key: str(number).encode() for number, key in enumerate(LOOKALIKES)}
        store.write(entries)
        assert store.read(LOOKALIKES) == list(entries.values())
        assert raw() == entries

    def test_ten_thousand_keys_at_once(self, store: Store) -> None:
        entries = {f"a/{number:05d}": str(number).encode() for number in range(10_000)}
        store.write(entries)
        wanted = [*reversed(entries), "a/missing"]
        assert store.read(wanted) == [*reversed(entries.values()), None]
        assert sorted(store.keys("a/")) == list(entries)
        store.delete([key for key in entries if key.endswith("7")])
        assert sorted(store.keys()) == [key for key in entries if not key.endswith("7")]
        assert store.clear("a/") == 9_000

    # By prefix

    def test_lists_exactly_what_starts_with_a_prefix(self, store: Store) -> None:
        _fill(store, LOOKALIKES)
        prefixes = [
            "",
            "a",
            "a/",
            "a/a",
            "A",
            "aa",
            "aa/",
            "a_",
            "a%",
            "a.",
            "a/\u00e1",
            "b",
            "a/a/",
        ]
        for prefix in prefixes:
            expected = sorted(key for key in LOOKALIKES if key.startswith(prefix))
            assert sorted(store.keys(prefix)) == expected, prefix
            assert sorted(_akeys(store, prefix)) == expected, prefix

    @pytest.mark.parametrize("colour", ["clear", "aclear"])
    def test_clears_one_prefix_only(self, store: Store, raw: Raw, colour: str) -> None:
        mine = [f"team_a/x/{number}" for number in range(2_500)]
        others = ["team-a/x/1", "teamXa/x/1", "team_ab/x/1", "team_", "TEAM_A/x/1", "t/team_a/1"]
        _fill(store, mine + others)
        if colour == "clear":
            assert store.clear("team_a/") == len(mine)
        else:
            assert asyncio.run(store.aclear("team_a/")) == len(mine)
        assert sorted(raw()) == sorted(others)
        assert store.clear("") == len(others)
        assert raw() == {}

    def test_keys_may_change_while_they_are_listed(self, store: Store) -> None:
        fixed = [f"a/fixed-{number}" for number in range(1_500)]
        _fill(store, [*fixed, *(f"a/going-{number}" for number in range(50))])
        seen: list[str] = []
        for number, key in enumerate(store.keys("a/")):
            seen.append(key)
            if number < 50:
                store.delete([f"a/going-{number}"])
                store.write({f"a/coming-{number}": b"new", fixed[number]: b"rewritten"})
        assert set(fixed) <= set(seen)
        assert len(seen) == len(set(seen))
        assert all(key.startswith("a/") for key in seen)

    # Both colours

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

    # Many at once

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

    # Time and life

    def test_expires_is_permission_to_reclaim_and_no_more(self, store: Store) -> None:
        past, future = time.time() - 1_000, time.time() + 1_000
        store.write({"a/kept": b"kept"})
        store.write({"a/past": b"past", "a/again": b"past"}, expires=past)
        store.write({"a/future": b"future"}, expires=future)
        assert store.read(["a/kept", "a/future"]) == [b"kept", b"future"]
        assert store.read(["a/past"])[0] in {None, b"past"}
        store.write({"a/again": b"kept"})
        assert store.read(["a/again"]) == [b"kept"]
        asyncio.run(store.awrite({"a/again": b"future"}, expires=future))
        assert store.read(["a/again"]) == [b"future"]
        assert (
            {"a/kept", "a/again", "a/future"}
            <= set(store.keys())
            <= {
                "a/kept",
                "a/again",
                "a/future",
                "a/past",
            }
        )

    def test_another_instance_sees_it_at_once(self, store: Store, opener: Opener) -> None:
        another = opener()
        store.write({"a/1": b"one"})
        assert another.read(["a/1"]) == [b"one"]
        another.write({"a/1": b"two"})
        assert store.read(["a/1"]) == [b"two"]
        if another is not store:
            another.close()
            assert store.read(["a/1"]) == [b"two"]

    def test_what_was_written_outlives_the_instance(self, store: Store, opener: Opener) -> None:
        store.write({"a/1": b"one"})
        store.close()
        with opener() as another:
            assert another.read(["a/1"]) == [b"one"]

    def test_closing_twice_does_nothing(self, store: Store) -> None:
        store.write({"a/1": b"one"})
        store.close()
        store.close()
        asyncio.run(store.aclose())

    # Upkeep

    def test_tells_its_size(self, store: Store) -> None:
        before = store.size()
        entries = {f"a/{number}": bytes([number]) * 50_000 for number in range(20)}
        store.write(entries)
        assert type(store.size()) is int
        assert store.size() >= before + 500_000
        assert asyncio.run(store.asize()) >= before + 500_000

    @pytest.mark.parametrize("colour", ["prune", "aprune"])
    def test_prunes_what_has_expired_and_nothing_else(
        self, store: Store, raw: Raw, colour: str
    ) -> None:
        now = time.time()
        ends = {"past": now - 1, "now": now, "soon": now + 1_000, "never": entry.NEVER}
        for name, end in ends.items():
            payload = name.encode() * 1_000
            blob = entry.pack(entry.Entry(payload, codecs.JSON, now - 2, end))
            store.write({f"a/{name}-{part}": blob for part in range(600)}, expires=end)
        store.write({"a/foreign": b"[1.0, 2.0]", "a/empty": b"", "a/damaged": b"ASK1 damaged"})
        gone = store.prune(now) if colour == "prune" else asyncio.run(store.aprune(now))
        left = sorted(raw())
        assert gone <= 1_200  # an engine may have reclaimed some by itself
        assert len(left) == 1_203
        assert not [key for key in left if key.startswith(("a/past", "a/now"))]
        assert store.prune(now) == 0

    def test_what_was_written_again_is_not_pruned(self, store: Store) -> None:
        now = time.time()
        old = entry.pack(entry.Entry(b"old", codecs.JSON, now - 2, now - 1))
        new = entry.pack(entry.Entry(b"new", codecs.JSON, now))
        store.write({"a/1": old}, expires=now - 1)
        store.write({"a/1": new})
        assert store.prune(now) == 0
        assert store.read(["a/1"]) == [new]

    def test_without_a_limit_nothing_is_given_up(self, store: Store) -> None:
        store.write({f"a/{number}": bytes(1_000) for number in range(100)})
        assert store.evict() == 0
        assert asyncio.run(store.aevict()) == 0
        assert len(list(store.keys())) == 100

    @pytest.mark.parametrize("colour", ["vacuum", "avacuum"])
    def test_a_vacuum_loses_nothing(self, store: Store, raw: Raw, colour: str) -> None:
        entries = {f"a/{number}": bytes([number]) * 20_000 for number in range(100)}
        store.write(entries)
        store.delete([f"a/{number}" for number in range(0, 100, 3)])
        for number in range(0, 100, 3):
            del entries[f"a/{number}"]
        before = store.size()
        if colour == "vacuum":
            store.vacuum()
        else:
            asyncio.run(store.avacuum())
        assert store.size() <= before
        assert raw() == entries
        store.write({"a/0": b"again"})
        assert store.read(["a/0", "a/1"]) == [b"again", entries["a/1"]]

    # Everything together

    def test_behaves_like_a_dict(self, opener: Opener) -> None:
        run_store_machine(opener)


def _fill(store: Store, keys: Sequence[str]) -> None:
    store.write({key: key.encode() for key in keys})


def _akeys(store: Store, prefix: str) -> list[str]:
    async def listed() -> list[str]:
        return [key async for key in store.akeys(prefix)]

    return asyncio.run(listed())
