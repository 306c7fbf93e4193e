"""Leases of two tiers: the far one's, and the near one's where those cannot be had."""

from collections.abc import Callable, Iterable, Sequence

from askonce.core.lease import Leases
from askonce.errors import StoreError


class TieredLeases(Leases):
    """Claim among all hosts, or among the processes of this one while the far store fails."""

    def __init__(
        self, far: Leases | None, near: Leases | None, note: Callable[[StoreError], None]
    ) -> None:
        both = [leases for leases in (far, near) if leases is not None]
        super().__init__(both[0].seconds)
        self._both = both
        self._note = note

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        *others, last = self._both
        for leases in others:
            try:
                return leases.take(keys, holder, seconds)
            except StoreError as error:
                self._note(error)
        return last.take(keys, holder, seconds)

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        for leases in self._both:
            leases.renew(keys, holder, seconds)

    def drop(self, keys: Sequence[str], holder: str) -> None:
        for leases in self._both:
            leases.drop(keys, holder)

    def claim(self, keys: Sequence[str]) -> list[str]:
        *others, last = self._in_turn()
        for leases in others:
            try:
                return leases.claim(keys)
            except StoreError as error:
                self._note(error)
        return last.claim(keys)

    async def aclaim(self, keys: Sequence[str]) -> list[str]:
        *others, last = self._in_turn()
        for leases in others:
            try:
                return await leases.aclaim(keys)
            except StoreError as error:
                self._note(error)
        return await last.aclaim(keys)

    def _in_turn(self) -> list[Leases]:
        for leases in self._both:
            leases.seconds = self.seconds
        return self._both

    def release(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        try:
            self._both[0].release(keys)
        finally:
            for leases in self._both[1:]:
                leases.release(keys)

    async def arelease(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        try:
            await self._both[0].arelease(keys)
        finally:
            for leases in self._both[1:]:
                await leases.arelease(keys)

    def lapse(self, keys: Iterable[str]) -> list[str]:
        keys = list(keys)
        return [key for leases in self._both for key in leases.lapse(keys)]
