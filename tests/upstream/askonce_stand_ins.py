"""Our classes with the private or foreign attributes that LangChain's tests look into.

Nothing here answers for a cache: every value comes out of our own public methods.
"""

import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from langchain_classic.storage import EncoderBackedStore
from sqlalchemy import create_engine

from askonce.integrations import langchain as ours


class Contents(MutableMapping):
    """Show a cache as the dict that LangChain's tests expect under `_cache`."""

    def __init__(self, cache: "InMemoryCache") -> None:
        self._cache = cache

    def __getitem__(self, key):
        found = self._cache.lookup(*key) if key in self._cache.updated else None
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key, generations) -> None:
        self._cache.update(*key, generations)

    def __delitem__(self, key) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator:
        return iter([key for key in self._cache.updated if self._cache.lookup(*key) is not None])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def copy(self) -> dict:
        return dict(self)


class InMemoryCache(ours.InMemoryCache):
    """Remember which keys were updated, so that `_cache` may be listed and written."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.updated = {}

    def update(self, prompt, llm_string, return_val) -> None:
        super().update(prompt, llm_string, return_val)
        self.updated[prompt, llm_string] = None

    async def aupdate(self, prompt, llm_string, return_val) -> None:
        await super().aupdate(prompt, llm_string, return_val)
        self.updated[prompt, llm_string] = None

    @property
    def _cache(self) -> Contents:
        return Contents(self)

    @_cache.setter
    def _cache(self, contents) -> None:
        self.clear()
        for key, generations in contents.items():
            self.update(*key, generations)


class SQLAlchemyCache(ours.SQLiteCache):
    """Be our cache over a file in which an engine of SQLAlchemy can write LangChain's rows."""

    def __init__(self, engine, cache_schema=None) -> None:
        from langchain_community.cache import FullLLMCache  # takes seconds, and few need it

        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, "langchain.db")
        self.engine = create_engine(f"sqlite:///{path}")
        self.cache_schema = cache_schema or FullLLMCache
        self.cache_schema.metadata.create_all(self.engine)
        super().__init__(str(path))


class InMemoryStore(EncoderBackedStore):
    """Be our byte store for tests whose values are text."""

    OURS = ours.InMemoryByteStore

    def __init__(self) -> None:
        super().__init__(self.OURS(), str, str.encode, bytes.decode)
