"""One verb after the other."""

import asyncio

import pytest

from askonce.core.store import Store
from askonce.testing.store_contents import KEYS, LOOKALIKES, VALUES
from askonce.testing.store_openers import Raw


class VerbTests:
    """Prove that what is written is read, and what is deleted is not."""

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
