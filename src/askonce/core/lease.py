"""Leases: among processes, who is asking for what right now.

A claim is good for some seconds and is renewed while its holder lives, so a slow holder keeps
it and a dead or frozen one loses it. Losing one costs a second call at worst, never an answer.
"""

import asyncio
import contextlib
import os
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from askonce.core import fork

DEFAULT_SECONDS = 10.0


class Leases(ABC):
    """Grant each key to one holder at a time.

    A backend fills in `take`, `renew` and `drop`; every one of them is atomic for each key.
    `works_in_loops` lets it do in an event loop what takes less time than the way to a thread.
    """

    works_in_loops: bool = False

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._process = os.getpid()
        self._holder = secrets.token_hex(8)
        self._held: set[str] = set()
        self._renewer: threading.Thread | None = None
        self._over = threading.Event()

    @abstractmethod
    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        """Give the keys to the holder that no one else holds, and tell which those are."""

    @abstractmethod
    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        """Let the holder keep what it still holds for so many seconds from now."""

    @abstractmethod
    def drop(self, keys: Sequence[str], holder: str) -> None:
        """Let others have these keys, as far as the holder still holds them."""

    def take_at_once(self, keys: Sequence[str], holder: str, seconds: float) -> list[str] | None:
        """Take in an event loop; None where that could hold it up."""
        return None

    def drop_at_once(self, keys: Sequence[str], holder: str) -> bool:
        """Drop in an event loop; False where that could hold it up."""
        return False

    def close(self) -> None:
        """Renew nothing any more, and let go of files and connections of one's own."""
        with self._lock:
            self._held.clear()
            self._over.set()
            self._over = threading.Event()
            self._renewer = None

    def claim(self, keys: Sequence[str]) -> list[str]:
        """Claim keys for this process and keep them until `release`; tell which were granted."""
        return self._hold(self.take(keys, self._of_this_process(), self.seconds))

    def _of_this_process(self) -> str:
        with self._lock:
            if self._process != os.getpid():
                # A forked child is another holder, and the renewing thread stayed behind.
                self._process = os.getpid()
                self._holder = secrets.token_hex(8)
                self._held.clear()
                self._renewer = None
                self._over = threading.Event()
            return self._holder

    def _hold(self, granted: list[str]) -> list[str]:
        """Keep what was granted from running out."""
        with self._lock:
            self._held.update(granted)
            if self._held and self._renewer is None:
                self._renewer = threading.Thread(
                    target=self._keep, args=(self._over,), name="askonce-leases", daemon=True
                )
                self._renewer.start()
        return granted

    def release(self, keys: Iterable[str]) -> None:
        """Release claimed keys."""
        if mine := self.lapse(keys):
            self.drop(mine, self._holder)

    def lapse(self, keys: Iterable[str]) -> list[str]:
        """Keep claimed keys no longer, but tell nobody: they run out; give those that were held."""
        with self._lock:
            mine = [key for key in keys if key in self._held]
            self._held.difference_update(mine)
        return mine

    async def aclaim(self, keys: Sequence[str]) -> list[str]:
        """Claim without blocking the event loop."""
        if self.works_in_loops:
            at_once = self.take_at_once(keys, self._of_this_process(), self.seconds)
            if at_once is not None:
                return self._hold(at_once)
        wanted: Future[None] = Future()
        granted: list[str] = []

        def claim() -> None:
            granted.extend(self.claim(keys))
            if not wanted.set_running_or_notify_cancel():
                self._let_go(granted)

        try:
            await asyncio.to_thread(claim)
        except asyncio.CancelledError:
            # The thread lets go by itself: the loop may have ended before the claim is granted.
            if not wanted.cancel():
                asyncio.get_running_loop().run_in_executor(None, self._let_go, granted)
            raise
        return granted

    async def arelease(self, keys: Iterable[str]) -> None:
        """Release without blocking the event loop; also if nobody waits for it to end."""
        mine = self.lapse(keys)
        if not mine or (self.works_in_loops and self.drop_at_once(mine, self._holder)):
            return
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(None, self.drop, mine, self._holder))

    def _let_go(self, keys: Iterable[str]) -> None:
        with contextlib.suppress(Exception):
            self.release(keys)

    def _drop_released(self, renewed: Sequence[str]) -> None:
        """Drop what was released while it was being renewed, which may have revived it."""
        with self._lock:
            released = [key for key in renewed if key not in self._held]
        if released:
            self.drop(released, self._holder)

    def _keep(self, over: threading.Event) -> None:
        """Renew what is held, time and again, until nothing is."""
        while not over.wait(self.seconds / 3):
            with self._lock:
                if over.is_set():
                    return
                held = list(self._held)
                if not held:
                    self._renewer = None
                    return
            # A renewal that fails lets the lease lapse: others will ask too, nothing worse.
            with contextlib.suppress(Exception):
                self.renew(held, self._holder, self.seconds)
                self._drop_released(held)
