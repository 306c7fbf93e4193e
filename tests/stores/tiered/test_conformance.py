"""Two tiers are a store, whatever they are made of."""

import pytest

from askonce.stores.file import FileStore
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.tiered import TieredStore
from askonce.testing import Opener, StoreTests


class TestMemoryOverSQLite(StoreTests):
    """Each instance is a host of its own."""

    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        return lambda: TieredStore(MemoryStore(), SQLiteStore(tmp_path / "far.db"), fresh_within=0)


class TestSQLiteOverFile(StoreTests):
    """All instances are processes of one host."""

    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        return lambda: TieredStore(
            SQLiteStore(tmp_path / "near.db"), FileStore(tmp_path / "far"), fresh_within=0
        )


class TestTiersOverTiers(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        def opened():
            inner = TieredStore(
                SQLiteStore(tmp_path / "near.db"), SQLiteStore(tmp_path / "far.db"), fresh_within=0
            )
            return TieredStore(MemoryStore(), inner, fresh_within=0)

        return opened
