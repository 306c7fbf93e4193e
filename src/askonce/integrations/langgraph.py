"""LangGraph's nodes, run once: a cache for `compile(cache=...)` over any store, without pickle."""

import asyncio
import json
import math
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import FrameType
from typing import Any

from askonce.errors import MissingExtraError

try:
    from langgraph.cache.base import BaseCache, FullKey, Namespace
except ImportError as error:
    raise MissingExtraError("langgraph", "langgraph", "askonce.integrations.langgraph") from error

from askonce import chat
from askonce.chat import Question, Terms
from askonce.core import flow, fork
from askonce.core.flight import Flight, Flights
from askonce.core.keys import Subject, namespace_prefix, segment, utf8
from askonce.core.store import Store
from askonce.events import Event, Observer, log
from askonce.integrations.langchain.messages import Refused
from askonce.integrations.langgraph_keys import NodeKey, asked, node_key
from askonce.integrations.langgraph_values import UNREADABLE, Reader, Writer, known_types
from askonce.stores import open_store

__all__ = ["NodeCache", "NodeKey", "node_key"]

KIND = "node"
Found = tuple[Any]
"""A value that was found, which may be None."""

_LOOKS = frozenset({"match_cached_writes", "amatch_cached_writes"})
_UNFINISHED = frozenset({"__error__", "__interrupt__"})
_KEPT_WITHIN = 5.0
"""So many seconds after a node has finished LangGraph may take to hand over what it wrote."""
_frame = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class NodeCache(BaseCache[Any]):
    """Keep what nodes write in a store: a URL or a Store, which is yours to close.

    `namespace` is a hard partition. `types` are classes (pydantic models, dataclasses, enums)
    that nodes may write and get back; nothing else than these, messages, documents and plain data
    is kept. Of graphs that come to the same node with the same key at the same moment one runs
    it, and another waits up to `wait` seconds. A store that fails is a miss, and told to
    `observe`. Raises InputError for values that cannot be used.
    """

    def __init__(
        self,
        store: Store | str,
        *,
        namespace: str = "",
        types: Iterable[type[Any]] = (),
        wait: float = chat.DEFAULT_WAIT,
        observe: Observer = log,
    ) -> None:
        super().__init__()
        self.namespace = namespace
        self.wait = wait
        self._known = known_types(types)
        self._owns_store = not isinstance(store, Store)
        self.store = open_store(store)
        self._observe = observe
        self._warned: set[str] = set()

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Give what is there for these keys."""
        found: dict[FullKey, Any] = self._run(self._get_flow(keys, _Loops(blocking=True)))
        return found

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Give what is there without blocking the event loop."""
        found: dict[FullKey, Any] = await self._arun(self._get_flow(keys, _Loops(blocking=False)))
        return found

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep these values for so many seconds each; never raise for it."""
        self._run(self._set_flow(pairs))

    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep values without blocking the event loop."""
        await self._arun(self._set_flow(pairs))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget these nodes, or all; nothing else in the store. Raises StoreError if it fails."""
        for prefix in self._prefixes(namespaces):
            self.store.clear(prefix)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Clear without blocking the event loop; see `clear`."""
        for prefix in self._prefixes(namespaces):
            await self.store.aclear(prefix)

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._owns_store:
            self.store.close()

    def _run(self, steps: flow.Flow) -> Any:
        return flow.run(steps, store=self.store, call=id, observe=self._observe)

    async def _arun(self, steps: flow.Flow) -> Any:
        return await flow.arun(steps, store=self.store, call=_none, observe=self._observe)

    def _get_flow(
        self, keys: Sequence[FullKey], loops: "_Loops"
    ) -> Generator[flow.Step, Any, dict[FullKey, Any]]:
        wanted = {full: self._question(full) for full in keys if not asked.is_refused(full[1])}
        blobs = yield flow.Read([question.key for question in wanted.values()])
        now = flow.now()
        found: dict[FullKey, Any] = {}
        for (full, question), blob in zip(wanted.items(), blobs, strict=True):
            answer = self._open(question.unpack(blob, now=now))
            if answer is None:
                terms = Terms(self.store.flights, loops.looking_for(full), now, self.wait)
                answer = yield from chat.lookup_flow(question, terms, self._open)
            else:
                yield flow.Tell(Event("hit", 1, question.namespace, question.model))
            if answer is not None:
                (found[full],) = answer
        return found

    def _set_flow(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> flow.Flow:
        for full, (value, ttl) in pairs.items():
            question = self._question(full)
            if asked.is_refused(full[1]):  # Then the key function has warned.
                yield from chat.refuse_flow(
                    question, "unidentified", "the node has no key", self.store.flights
                )
                continue
            try:
                payload = self._payload(full, value)
            except Refused as refused:
                self._warn(str(refused))
                yield from chat.refuse_flow(question, "not_plain", str(refused), self.store.flights)
            else:
                packed = question.pack(payload, {}, now=flow.now(), ttl=ttl)
                yield from chat.save_flow(question, packed, self.store.flights)

    def _payload(self, full: FullKey, value: Any) -> bytes:
        writer = Writer(self._known)
        written = writer.write(value)
        given = asked.identifiers(full[1])
        if given and not given.isdisjoint(writer.identifiers):
            raise Refused(
                "the node writes messages that it was given, under their ids, which are others "
                "the next time. Let it write its own messages alone, or leave key_func to "
                "LangGraph's default"
            )
        if given is not None and writer.removes:
            raise Refused(
                "the node removes messages by their ids, which are others the next time; leave "
                "key_func to LangGraph's default"
            )
        return b'{"fresh":%s,"value":%s}' % (b"false" if given is None else b"true", written)

    def _open(self, payload: bytes | None) -> Found | None:
        if payload is None:
            return None
        try:
            record = json.loads(payload.decode())
            reader = Reader(self._known, fresh=record["fresh"])
            return (reader.read(record["value"]),)
        except UNREADABLE:
            return None

    def _question(self, full: FullKey) -> Question:
        namespace, key = full
        return Question.of(self._subject(namespace), utf8(key))

    def _subject(self, namespace: Namespace) -> Subject:
        # The name of the node comes first, for people; JSON keeps the parts apart.
        return Subject(self.namespace, KIND, json.dumps(namespace[::-1]))

    def _prefixes(self, namespaces: Sequence[Namespace] | None) -> list[str]:
        if namespaces is None:
            return [f"{namespace_prefix(self.namespace)}{segment(KIND)}/"]
        return [self._subject(namespace).prefix for namespace in namespaces]

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(f"a node is not cached: {reason}", UserWarning, stacklevel=2)


class _Loops:
    """Know the runs of graphs that lead flights.

    LangGraph tells a cache when it looks and when a node has finished, but not when it failed. So
    the loop that looked is remembered, and whoever waits checks whether the node is still at work.
    """

    def __init__(self, *, blocking: bool) -> None:
        self._blocking = blocking
        self._full: FullKey | None = None
        self._loop = _loop_of(_frame(2))

    def looking_for(self, full: FullKey) -> "_Loops":
        """Look for another key of the same run."""
        self._full = full
        return self

    def may_lead(self) -> bool:
        """Tell whether LangGraph will run the node that it looks for."""
        return self._loop is not None

    def lead(self, flights: Flights, flight: Flight) -> None:
        """Remember that this run leads the flight from now on."""
        _led.add(flight, self._loop, self._full)

    def may_wait(self) -> bool:
        """Tell whether nobody can be waiting for us, for a node that we lead or are run by."""
        if self._loop is None or self._loop.is_nested or _led.any_of(self._loop):
            return False
        return not (self._blocking and _is_in_event_loop())

    def is_gone(self, flight: Flight) -> bool:
        """Tell whether the node is not at work any more."""
        return not _led.is_at_work(flight)


class _Led:
    """Keep which run of a graph leads which flight, until it lands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._loops: dict[Future[Any], _Lead] = {}

    def add(self, flight: Flight, loop: Any, full: FullKey | None) -> None:
        with self._lock:
            self._loops[flight.landed] = _Lead(weakref.ref(loop), full)
        flight.landed.add_done_callback(self._forget)

    def any_of(self, loop: Any) -> bool:
        with self._lock:
            return any(lead.loop() is loop for lead in self._loops.values())

    def is_at_work(self, flight: Flight) -> bool:
        with self._lock:
            lead = self._loops.get(flight.landed)
        return lead is not None and lead.is_at_work()

    def _forget(self, landed: Future[Any]) -> None:
        with self._lock:
            self._loops.pop(landed, None)


class _Lead:
    """Watch one run that leads: whether its node is at work, or what it wrote still to be kept."""

    def __init__(self, loop: weakref.ref[Any], full: FullKey | None) -> None:
        self.loop = loop
        self._full = full
        self._kept_by = math.inf

    def is_at_work(self) -> bool:
        loop: Any = self.loop()
        try:
            tasks = [task for task in loop.tasks.values() if _full_key(task) == self._full]
            failed = {
                task
                for task, channel, _ in loop.checkpoint_pending_writes
                if channel in _UNFINISHED
            }
            if loop.status == "interrupt_before":
                return False
            if tasks and loop.status == "pending":
                return any(task.id not in failed for task in tasks)
        except (AttributeError, RuntimeError):  # It is gone, or being changed just now.
            return loop is not None
        # The graph has gone on, while another of its threads has yet to call `set`.
        now = time.monotonic()
        self._kept_by = min(self._kept_by, now + _KEPT_WITHIN)
        return now < self._kept_by


_led = _Led()


def _full_key(task: Any) -> FullKey | None:
    key = task.cache_key
    return None if key is None else (key.ns, key.key)


def _loop_of(frame: FrameType | None) -> Any:
    """Find the run that looks into the cache, if one does."""
    while frame is not None:
        if frame.f_code.co_name in _LOOKS:
            loop = frame.f_locals.get("self")
            return loop if hasattr(loop, "tasks") and hasattr(loop, "is_nested") else None
        frame = frame.f_back
    return None


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _none(_: object) -> None:
    """Be the call of a flow that calls for nothing."""
