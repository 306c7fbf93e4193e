"""The gateway's own API keys: who may come in, to what, and how often."""

import asyncio
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from askonce.core import fork
from askonce.core.entry import NEVER
from askonce.core.keys import RESERVED
from askonce.core.store import Store
from askonce.errors import InputError, InputTypeError, StoreUnavailableError
from askonce.gateway.key_records import ApiKey, Record, decode, digest_of, encode, id_of

__all__ = ["ApiKey", "KeyRing"]

PREFIX = f"{RESERVED}gateway/key/"
TRUSTED_WITHOUT_STORE = 60.0
"""Seconds that a key seen in the store is still known while the store fails."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_STRANGERS = 4096
_AT_ONCE = 500


@dataclass(slots=True)
class _Known:
    """Hold what the store told at `seen`; it was asked last at `asked`."""

    record: Record
    seen: float
    asked: float


class KeyRing:
    """Keep API keys in a store, and recognise them.

    What the store tells of a key holds for `remember` seconds, so a revocation is effective
    everywhere after that time. Times are in seconds since 1970.
    """

    def __init__(self, store: Store, *, remember: float = 1.0) -> None:
        self._store = store
        self._remember = remember
        self._known: dict[str, _Known] = {}
        self._strangers: OrderedDict[str, float] = OrderedDict()
        self._looking_up: dict[str, asyncio.Task[Exception | None]] = {}
        self._lock = threading.Lock()
        fork.hold_still(self._lock)

    def create(
        self,
        name: str,
        *,
        namespace: str | None = None,
        models: Iterable[str] = (),
        requests_per_minute: int | None = None,
        budget_per_day: float | None = None,
        expires: float = NEVER,
        now: float,
    ) -> tuple[str, ApiKey]:
        """Make a key and give its secret, which nobody can tell again. Raises StoreError."""
        if isinstance(models, str):
            raise InputTypeError(f"models is the string {models!r}; give a list of patterns")
        number = self._free_id()
        key = ApiKey(
            number,
            name,
            f"key-{number}" if namespace is None else namespace,
            tuple(models),
            requests_per_minute,
            budget_per_day,
            now,
            expires,
            None,
        )
        secret = f"ask-{number}-{secrets.token_urlsafe(32)}"
        self._write(Record(key, digest_of(secret)))
        return secret, key

    def keys(self) -> list[ApiKey]:
        """Give all keys, the oldest first, also those that let nobody in. Raises StoreError."""
        found = [record.key for _, record in self._records() if record is not None]
        return sorted(found, key=lambda key: (key.created, key.id))

    def unreadable(self) -> list[str]:
        """Give the ids of what is damaged, or of a newer askonce; it lets nobody in."""
        return sorted(number for number, record in self._records() if record is None)

    def revoke(self, id_or_name: str, *, now: float) -> ApiKey:
        """Let a key in no more, and give it as it is then; one that was revoked stays as it is.

        Of several keys of a name, the one that is not revoked is meant. Raises InputError if there
        is none or more than one, and StoreError.
        """
        records = dict(self._records())
        if id_or_name in records:
            record = records[id_or_name]
            if record is None:
                raise InputError(
                    f"the record of key {id_or_name} is damaged or of a newer askonce; it lets "
                    "nobody in here. Revoke it with the newest askonce"
                )
        else:
            record = _the_one(
                id_or_name,
                [one for one in records.values() if one is not None and one.key.name == id_or_name],
            )
        if record.key.revoked is None:
            record = Record(replace(record.key, revoked=now), record.digest)
            self._write(record)
        return record.key

    def find(self, secret: str, *, now: float) -> ApiKey | None:
        """Recognise a secret, None if it is of no key; the key may be revoked or expired.

        Raises StoreError if the store fails, unless the key was seen in it shortly before.
        """
        number = id_of(secret)
        if number is None:
            return None
        if not self._remembers(number, now):
            try:
                value = self._store.read([PREFIX + number])[0]
            except Exception as error:  # noqa: BLE001  whatever fails, nobody comes in by it
                self._do_without(number, now, error)
            else:
                self._learn(number, value, now)
        return self._judge(number, secret)

    async def afind(self, secret: str, *, now: float) -> ApiKey | None:
        """Recognise a secret without blocking the event loop; see `find`."""
        number = id_of(secret)
        if number is None:
            return None
        if not self._remembers(number, now):
            task = self._looking_up.get(number)
            if task is None or task.get_loop() is not asyncio.get_running_loop():
                task = asyncio.create_task(self._look_up(number, now))
                self._looking_up[number] = task
            # Whoever goes away takes the answer from nobody else.
            if (error := await asyncio.shield(task)) is not None:
                self._do_without(number, now, error)
        return self._judge(number, secret)

    async def _look_up(self, number: str, now: float) -> Exception | None:
        try:
            value = (await self._store.aread([PREFIX + number]))[0]
        except Exception as error:  # noqa: BLE001  whatever fails, nobody comes in by it
            return error
        else:
            self._learn(number, value, now)
            return None
        finally:
            if self._looking_up.get(number) is asyncio.current_task():
                del self._looking_up[number]

    def _remembers(self, number: str, now: float) -> bool:
        known = self._known.get(number)
        asked = self._strangers.get(number) if known is None else known.asked
        # A clock that was set back makes nothing last longer.
        return asked is not None and 0 <= now - asked < self._remember

    def _learn(self, number: str, value: bytes | None, now: float) -> None:
        record = None if value is None else decode(number, value)
        with self._lock:
            self._strangers.pop(number, None)
            if record is not None:
                self._known[number] = _Known(record, now, now)
                return
            self._known.pop(number, None)
            self._strangers[number] = now
            if len(self._strangers) > _STRANGERS:
                self._strangers.popitem(last=False)

    def _do_without(self, number: str, now: float, error: Exception) -> None:
        with self._lock:
            known = self._known.get(number)
            if known is not None and 0 <= now - known.seen < TRUSTED_WITHOUT_STORE:
                known.asked = now
                return
        raise StoreUnavailableError(
            f"who asks cannot be told, because the store of the gateway's keys fails: {error}"
        ) from error

    def _judge(self, number: str, secret: str) -> ApiKey | None:
        known = self._known.get(number)
        if known is None or not hmac.compare_digest(known.record.digest, digest_of(secret)):
            return None
        return known.record.key

    def _write(self, record: Record) -> None:
        number = record.key.id
        self._store.write({PREFIX + number: encode(record)})
        with self._lock:
            self._known.pop(number, None)
            self._strangers.pop(number, None)

    def _free_id(self) -> str:
        while True:
            number = "".join(secrets.choice(_ALPHABET) for _ in range(8))
            if self._store.read([PREFIX + number]) == [None]:
                return number

    def _records(self) -> Iterator[tuple[str, Record | None]]:
        names = list(self._store.keys(PREFIX))
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            for name, value in zip(part, self._store.read(part), strict=True):
                number = name.removeprefix(PREFIX)
                if value is not None:
                    yield number, decode(number, value)


def _the_one(name: str, found: list[Record]) -> Record:
    valid = [record for record in found if record.key.revoked is None]
    if not found:
        raise InputError(f"there is no key {name!r}; askonce keys list shows those there are")
    if len(valid) > 1 or (not valid and len(found) > 1):
        ids = ", ".join(sorted(record.key.id for record in valid or found))
        raise InputError(f"several keys are called {name!r}: {ids}; give the id of one")
    return (valid or found)[0]
