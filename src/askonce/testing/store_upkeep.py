"""What becomes of a store in time: entries that expire, instances that end, room that is freed."""

import asyncio
import time

import pytest

from askonce.core import codecs, entry
from askonce.core.store import Store
from askonce.testing.store_openers import Opener, Raw


class UpkeepTests:
    """Prove that a store loses what it is told to lose, and keeps all else."""

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
