"""Chat answers and completions for LangChain, kept in a store."""

import asyncio
import os
import sqlite3
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation

from askonce import chat
from askonce.chat import Packed, Question, Terms
from askonce.core import entry, flow, policy
from askonce.core.entry import NEVER
from askonce.core.keys import Subject, namespace_prefix, segment
from askonce.core.store import Store
from askonce.errors import InputError, StoreError
from askonce.events import Event, Observer, log
from askonce.integrations.langchain import messages, prompts
from askonce.integrations.langchain.legacy_sqlite import LegacyTable
from askonce.integrations.langchain.pending import Pending
from askonce.stores import SMALL_PAGE_SIZE, open_store
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore

_IN_THREADS = Pending(blocking=True)
_IN_TASKS = Pending(blocking=False)


class StoreCache(BaseCache):
    """Keep LangChain's answers in a store: for `set_llm_cache`, or as the `cache=` of a model.

    `store` is a URL or a Store; a Store that you opened is yours to close. `ttl` is in seconds,
    `namespace` is a hard partition. Of calls that ask the same at the same moment one asks the
    model; another waits for it, and after `wait` seconds asks, too. What is found is a new object
    every time, with an id of its own, no tokens, and `additional_kwargs["cache_hit"]` set. A
    store that fails is a miss, and told to `observe`. Raises InputError for values that cannot
    be used.
    """

    def __init__(
        self,
        store: Store | str,
        *,
        ttl: float | None = None,
        namespace: str = "",
        wait: float = chat.DEFAULT_WAIT,
        observe: Observer = log,
    ) -> None:
        self.ttl = policy.check_ttl(ttl)
        self.namespace = namespace
        self.wait = wait
        self._owns_store = not isinstance(store, Store)
        self.store = open_store(store)
        self._observe = observe
        self._warned: set[str] = set()

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Look an answer up; after None it is for the caller to ask the model."""
        at_once = self._at_once(prompt, llm_string)
        if at_once is not None:
            return at_once
        steps = self._lookup_flow(prompt, llm_string, _IN_THREADS)
        found: list[Generation] | None = flow.run(
            steps, store=self.store, call=self._elsewhere, observe=self._observe
        )
        return found

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Look an answer up without blocking the event loop; see `lookup`."""
        steps = self._lookup_flow(prompt, llm_string, _IN_TASKS)
        found: list[Generation] | None = await flow.arun(
            steps, store=self.store, call=self._aelsewhere, observe=self._observe
        )
        return found

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store an answer, unless it could not be given back as it is; never raise for it."""
        steps = self._save_flow(prompt, llm_string, return_val)
        flow.run(steps, store=self.store, call=self._elsewhere, observe=self._observe)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store an answer without blocking the event loop; see `update`."""
        steps = self._save_flow(prompt, llm_string, return_val)
        await flow.arun(steps, store=self.store, call=self._aelsewhere, observe=self._observe)

    def clear(self, **kwargs: Any) -> None:
        """Forget the chat answers of this namespace, and nothing else in the store.

        Raises StoreError if the store fails, for then the answers are still there.
        """
        self.store.clear(self._prefix)

    async def aclear(self, **kwargs: Any) -> None:
        """Clear without blocking the event loop; see `clear`."""
        await self.store.aclear(self._prefix)

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._owns_store:
            self.store.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy of a model goes on using the same cache.
        return self

    @property
    def _prefix(self) -> str:
        return f"{namespace_prefix(self.namespace)}{segment(prompts.KIND)}/"

    def _at_once(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Give what is in the store, None for all else: the flow finds out what that means.

        Most lookups that matter end here, in half the time of a flow.
        """
        question = prompts.identify(prompt, llm_string, self.namespace)
        if isinstance(question, prompts.Unidentified):
            return None
        try:
            (blob,) = self.store.read((question.key,))
        except Exception:  # noqa: BLE001  the flow will tell of it
            return None
        payload = question.unpack(blob, now=flow.now())
        found = None if payload is None else messages.decode(payload)
        if found is not None and blob is not None:
            flow.tell(self._observe, chat.event_of("hit", question, entry.meta_of(blob)))
        return found

    def _lookup_flow(
        self, prompt: str, llm_string: str, leaders: Pending
    ) -> Generator[flow.Step, Any, list[Generation] | None]:
        question = self._identify(prompt, llm_string)
        if isinstance(question, prompts.Unidentified):
            return None
        terms = Terms(self.store.flights, leaders, flow.now(), self.wait)
        missing = self._missing(question, prompt, llm_string)
        return (yield from chat.lookup_flow(question, terms, messages.decode, missing))

    def _save_flow(
        self, prompt: str, llm_string: str, generations: Sequence[Generation]
    ) -> Generator[flow.Step, Any, None]:
        question = self._identify(prompt, llm_string)
        if isinstance(question, prompts.Unidentified):
            reason = question.reason
            model = question.model
            yield flow.Tell(
                Event("refused", 1, self.namespace, model, reason=reason, code="unidentified")
            )
            return
        flights = self.store.flights
        seconds = chat.seconds_since_lookup(question, flights)
        meta = _meta_of(question, generations, seconds)
        try:
            packed = self._pack(question, generations, meta)
        except messages.Refused as refusal:
            yield from chat.refuse_flow(question, "not_plain", str(refusal), flights, meta)
        else:
            yield from chat.save_flow(question, packed, flights)

    def _pack(
        self, question: Question, generations: Sequence[Generation], meta: chat.Meta
    ) -> Packed:
        payload = messages.encode(generations)
        return question.pack(payload, meta, now=flow.now(), ttl=self.ttl)

    def _identify(self, prompt: str, llm_string: str) -> Question | prompts.Unidentified:
        question = prompts.identify(prompt, llm_string, self.namespace)
        if isinstance(question, prompts.Unidentified) and question.cause not in self._warned:
            self._warned.add(question.cause)
            warnings.warn(question.reason, UserWarning, stacklevel=5)
        return question

    def _missing(self, question: Question, prompt: str, llm_string: str) -> object:
        """Give what to ask `_elsewhere` about something that the store does not have."""
        return None

    def _elsewhere(self, missing: Any) -> Packed | None:
        return None

    async def _aelsewhere(self, missing: Any) -> Packed | None:
        return await asyncio.to_thread(self._elsewhere, missing)


def _meta_of(
    question: Question, generations: Sequence[Generation], seconds: float
) -> dict[str, object]:
    return {
        "model": question.model,
        "tokens": messages.tokens_of(generations),
        "seconds": round(seconds, 4),
    }


class InMemoryCache(StoreCache):
    """Keep the last `maxsize` answers used, None for all, in this process's memory.

    Raises InputError unless `maxsize` is above 0.
    """

    def __init__(self, *, maxsize: int | None = None, observe: Observer = log) -> None:
        if maxsize is not None and maxsize <= 0:
            raise InputError("maxsize must be greater than 0")
        self._maxsize = maxsize
        super().__init__(
            _CountedStore(sys.maxsize if maxsize is None else maxsize), observe=observe
        )

    @property
    def _cache(self) -> dict[str, list[Generation] | None]:
        """Show what is kept under the name that LangChain's class has for it."""
        keys = list(self.store.keys())
        found = [entry.unpack(blob or b"") for blob in self.store.read(keys)]
        return {
            key: messages.decode(one.payload) for key, one in zip(keys, found, strict=True) if one
        }


class _CountedStore(MemoryStore):
    """Bound a store in memory by its number of entries instead of their size."""

    def __init__(self, max_entries: int) -> None:
        super().__init__(max_bytes=sys.maxsize)
        self._max_entries = max_entries

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        super().write(entries, expires=expires)
        with self._lock:
            while len(self._entries) > self._max_entries:
                self._forget(next(iter(self._entries)))


class SQLiteCache(StoreCache):
    """Keep answers in an SQLite file, which may be the one of LangChain's own SQLiteCache.

    Its answers are found, too, in the default namespace, if its table is there from the start;
    they are copied as they are asked for, and never changed. The rest is like StoreCache.
    A `database_path` of ":memory:" keeps all in memory; so does, until the process ends, a file
    that is there but cannot be written. Raises StoreError if the file is no SQLite database.
    """

    def __init__(
        self,
        database_path: str | os.PathLike[str] = ".langchain.db",
        *,
        ttl: float | None = None,
        namespace: str = "",
        wait: float = chat.DEFAULT_WAIT,
        observe: Observer = log,
    ) -> None:
        path = os.fspath(database_path)
        in_file = path not in _IN_MEMORY
        store = _open_file(Path(path), observe) if in_file else MemoryStore()
        super().__init__(store, ttl=ttl, namespace=namespace, wait=wait, observe=observe)
        self._owns_store = True
        self._legacy: LegacyTable | None = None
        if in_file and not namespace:
            table = LegacyTable(Path(path))
            self._legacy = table if table.exists() else None

    def clear(self, **kwargs: Any) -> None:
        """Forget the chat answers of this namespace.

        LangChain's own are left in its table, but none that is there now is found here any more.
        Raises StoreError if the file cannot be written.
        """
        if self._legacy is not None:
            last = str(self._legacy.last()).encode()
            self.store.write({_RETIRED.key: _RETIRED.pack(last, {}, now=flow.now(), ttl=None)[0]})
        super().clear()

    async def aclear(self, **kwargs: Any) -> None:
        """Clear without blocking the event loop; see `clear`."""
        await asyncio.to_thread(self.clear)

    def _missing(self, question: Question, prompt: str, llm_string: str) -> object:
        return None if self._legacy is None else (question, prompt, llm_string)

    def _elsewhere(self, missing: tuple[Question, str, str]) -> Packed | None:
        """Look into LangChain's own table."""
        question, prompt, llm_string = missing
        table = self._legacy
        try:
            (blob,) = self.store.read((_RETIRED.key,))
            retired = b"0" if blob is None else _RETIRED.unpack(blob, now=flow.now())
            if table is None or retired is None:
                return None
            generations = table.find(prompt, llm_string, after=int(retired))
            if not generations:
                return None
            return self._pack(question, generations, _meta_of(question, generations, 0.0))
        except StoreError as error:
            flow.tell(self._observe, Event("store_failed", error=error))
        except messages.Refused:
            pass
        return None


_IN_MEMORY = ("", ":memory:")

_RETIRED = Question.of(Subject("", "retired", "full_llm_cache"), b"")
"""The entry under this key holds the last row of LangChain's table that was cleared."""


def _open_file(path: Path, observe: Observer) -> Store:
    """Open the file as a store; if it is there but may not be written, go on in memory."""
    try:
        return SQLiteStore(path, page_size=SMALL_PAGE_SIZE)
    except StoreError as error:
        code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or not path.is_file():
            raise
        flow.tell(observe, Event("store_failed", error=error))
        return MemoryStore()
