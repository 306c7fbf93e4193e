"""Keys that are listed and cleared by a prefix."""

import asyncio
from collections.abc import Sequence

import pytest

from askonce.core.store import Store
from askonce.testing.store_contents import LOOKALIKES
from askonce.testing.store_openers import Raw


class PrefixTests:
    """Prove that a prefix stands for what starts with it, and for nothing else."""

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


def _fill(store: Store, keys: Sequence[str]) -> None:
    store.write({key: key.encode() for key in keys})


def _akeys(store: Store, prefix: str) -> list[str]:
    async def listed() -> list[str]:
        return [key async for key in store.akeys(prefix)]

    return asyncio.run(listed())
