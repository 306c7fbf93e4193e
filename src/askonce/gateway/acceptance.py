"""Which credentials the providers have accepted of late.

A kept answer is given only to holders of a credential that its provider accepts. Every answer that
a provider gives shows it; when the last one is too long ago, the provider is asked something that
costs nothing, and where there is no such thing, the next request goes to it whatever is kept.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from askonce.core import entry
from askonce.core.keys import RESERVED
from askonce.core.store import Store

Standing = Literal["accepted", "lapsed", "unknown"]
"""Accepted of late; once, but longer ago; never, as far as anybody here knows."""

Found = TypeVar("Found")

_MOST: Final = 10_000
_PREFIX: Final = f"{RESERVED}accepted/"


@dataclass
class Acceptance:
    """Remember accepted credentials, by keyed digests, together with all who share a store.

    One that was accepted within `verify_for` seconds is accepted; within `trust` it has lapsed.
    """

    store: Store
    verify_for: float
    trust: float
    _seen: "OrderedDict[str, float]" = field(default_factory=OrderedDict[str, float])
    _checks: "dict[str, asyncio.Future[Any]]" = field(default_factory=dict[str, Any])

    def at_once(self, digest: str) -> bool:
        """Tell whether a credential is known to be accepted, without asking anybody."""
        return time.time() - self._seen.get(digest, 0.0) < self.verify_for

    async def standing(self, digest: str) -> Standing:
        """Tell how a credential stands; another worker may have seen it accepted."""
        now = time.time()
        when = self._seen.get(digest, 0.0)
        if now - when >= self.verify_for:
            try:
                (blob,) = await self.store.aread([_PREFIX + digest])
            except Exception:  # noqa: BLE001  a store that fails knows nothing
                blob = None
            found = entry.unpack(blob) if blob else None
            when = max(when, found.created) if found else when
            self._note(digest, when)
        if now - when < self.verify_for:
            return "accepted"
        return "lapsed" if now - when < max(self.verify_for, self.trust) else "unknown"

    async def once(self, digest: str, check: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
        """Have a credential checked by one of all who want to know at the same moment."""
        under_way = self._checks.get(digest)
        if under_way is None:
            under_way = self._checks[digest] = asyncio.ensure_future(check())
            under_way.add_done_callback(lambda _: self._checks.pop(digest, None))
        found: Found = await asyncio.shield(under_way)
        return found

    async def accept(self, digest: str) -> None:
        """Note that the provider has just accepted a credential."""
        now = time.time()
        before = self._seen.get(digest, 0.0)
        self._note(digest, now)
        # Others need not hear of every answer.
        if now - before < self.verify_for / 4:
            return
        lasting = now + max(self.verify_for, self.trust)
        blob = entry.pack(entry.Entry(b"", 0, now, lasting))
        await self._tolerant(self.store.awrite({_PREFIX + digest: blob}, expires=lasting))

    async def reject(self, digest: str) -> None:
        """Note that the provider no longer accepts a credential."""
        known = self._seen.pop(digest, 0.0)
        if known:
            await self._tolerant(self.store.adelete([_PREFIX + digest]))

    def _note(self, digest: str, when: float) -> None:
        if when:
            self._seen[digest] = when
            self._seen.move_to_end(digest)
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)

    @staticmethod
    async def _tolerant(doing: Any) -> None:
        # What is not remembered is verified again.
        with contextlib.suppress(Exception):
            await doing
