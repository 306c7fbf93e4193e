"""Leases in a bucket: small tables that are replaced on condition that nobody else did so.

No clock of one host is compared with that of another. A holder writes a new token every time it
renews; who sees the same token for as long as the lease was granted, by his own clock and since he
saw it first, takes it for dead.
"""

import asyncio
import hashlib
import json
import random
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from askonce.core import colours, fork
from askonce.core.keys import utf8
from askonce.core.lease import DEFAULT_SECONDS, Leases
from askonce.stores.objects_bucket import Bucket, ConflictError, together

FOLDER = "leases"

_FORMAT = 1
_KEYS_PER_DEADLINE = 1000
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Lease:
    """Hold who has a key, for how many seconds, and the token of when that was last said."""

    holder: str
    seconds: float
    token: str


_dice = random.SystemRandom()

Table = dict[str, Lease]
Change = Callable[[Table], tuple[list[str], bool]]
"""Changes a table: gives what was asked for, and whether the table is another one now."""


class ObjectLeases(Leases):
    """Keep the leases of a bucket's users in 16 objects, by the first digit of a key's digest."""

    def __init__(self, bucket: Bucket, timeout: float, seconds: float = DEFAULT_SECONDS) -> None:
        super().__init__(seconds)
        self._bucket = bucket
        self._timeout = timeout
        self._watching = threading.Lock()
        fork.hold_still(self._watching)
        self._seen: dict[str, dict[str, tuple[str, float]]] = {}

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        digests = {_digest_of(key): key for key in keys}
        token = secrets.token_hex(4)

        def change(shard: str, mine: Sequence[str], table: Table) -> tuple[list[str], bool]:
            for digest in self._lapsed(shard, table):
                del table[digest]
            granted = [one for one in mine if one not in table or table[one].holder == holder]
            table.update(dict.fromkeys(granted, Lease(holder, seconds, token)))
            return granted, bool(granted)

        granted = set(self._change(digests, change))
        return [key for digest, key in digests.items() if digest in granted]

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        token = secrets.token_hex(4)

        def change(_: str, mine: Sequence[str], table: Table) -> tuple[list[str], bool]:
            held = [one for one in mine if one in table and table[one].holder == holder]
            table.update(dict.fromkeys(held, Lease(holder, seconds, token)))
            return held, bool(held)

        self._change(map(_digest_of, keys), change)

    def drop(self, keys: Sequence[str], holder: str) -> None:
        def change(_: str, mine: Sequence[str], table: Table) -> tuple[list[str], bool]:
            held = [one for one in mine if one in table and table[one].holder == holder]
            for one in held:
                del table[one]
            return held, bool(held)

        self._change(map(_digest_of, keys), change)

    def _change(
        self,
        digests: Iterable[str],
        change: Callable[[str, Sequence[str], Table], tuple[list[str], bool]],
    ) -> list[str]:
        """Change all tables that these keys are in."""
        shards: defaultdict[str, list[str]] = defaultdict(list)
        count = 0
        for digest in digests:
            shards[digest[0]].append(digest)
            count += 1
        if not shards:
            return []
        allowed = self._timeout * (1 + count // _KEYS_PER_DEADLINE)

        async def change_one(shard: str) -> list[str]:
            return await self._change_table(
                shard, lambda table: change(shard, shards[shard], table)
            )

        async def change_all() -> list[list[str]]:
            try:
                async with asyncio.timeout(allowed):
                    return await together(change_one, shards)
            except TimeoutError as error:
                raise self._bucket.silent(allowed) from error

        parts: list[list[str]] = colours.run_coroutine(change_all())
        return [digest for part in parts for digest in part]

    async def _change_table(self, shard: str, change: Change) -> list[str]:
        path = f"{FOLDER}/{shard}"
        while True:
            try:
                content, version = await self._bucket.get_version(path)
            except FileNotFoundError:
                content, version = b"", None
            table = _decode(content)
            found, changed = change(table)
            if not changed:
                return found
            try:
                await self._bucket.put(path, _encode(table), version or "create")
            except ConflictError:
                await asyncio.sleep(_dice.uniform(0, _PAUSE))
            else:
                return found

    def _lapsed(self, shard: str, table: Table) -> list[str]:
        """Tell which leases nobody renewed for as long as they were granted."""
        now = time.monotonic()
        with self._watching:
            before = self._seen.get(shard, {})
            seen: dict[str, tuple[str, float]] = {}
            for digest, lease in table.items():
                token, since = before.get(digest, (lease.token, now))
                seen[digest] = (lease.token, since if token == lease.token else now)
            self._seen[shard] = seen
        return [digest for digest, lease in table.items() if now - seen[digest][1] >= lease.seconds]


def _digest_of(key: str) -> str:
    return hashlib.blake2b(utf8(key), digest_size=16).hexdigest()


def _encode(table: Table) -> bytes:
    held = {digest: [one.holder, one.seconds, one.token] for digest, one in table.items()}
    return json.dumps({"format": _FORMAT, "held": held}).encode()


def _decode(content: bytes) -> Table:
    """Read a table; a damaged one is empty."""
    try:
        read = json.loads(content)
        return {digest: Lease(*held) for digest, held in read["held"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
