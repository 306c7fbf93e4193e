"""What every store must do. A backend's test file inherits `StoreTests` and says how to open it."""

from collections.abc import Iterator, Mapping

import pytest

from askonce.core.store import Store
from askonce.testing.state_machine import run_store_machine
from askonce.testing.store_callers import CallerTests
from askonce.testing.store_openers import Opener, Raw
from askonce.testing.store_prefixes import PrefixTests
from askonce.testing.store_upkeep import UpkeepTests
from askonce.testing.store_verbs import VerbTests


class StoreTests(VerbTests, PrefixTests, CallerTests, UpkeepTests):
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

    def test_behaves_like_a_dict(self, opener: Opener) -> None:
        run_store_machine(opener)
