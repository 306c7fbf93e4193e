"""A store in a Redis or Valkey, shared by any number of hosts."""

import functools
import itertools
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.keys import utf8, utf8_each
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import InputError, MissingExtraError, StoreRefusedError
from askonce.stores import Location
from askonce.stores.guarded import LOOKUP_TIMEOUT, TIMEOUT, Guarded

try:
    import redis as _  # noqa: F401
except ImportError as error:
    raise MissingExtraError("redis", "redis", "the store redis://") from error

from askonce.stores.redis_address import TLS_OPTIONS, Address, Node
from askonce.stores.redis_diagnosis import findings_of
from askonce.stores.redis_errors import check
from askonce.stores.redis_leases import RedisLeases
from askonce.stores.redis_server import RedisServer
from askonce.stores.redis_topology import Command, Flow, Topology

PREFIX = "askonce:"
_LEASES = b"lease:"

_LARGEST_READ = 1024**2
_LARGEST_WRITE = 4 * 1024**2
_MOST_READS = 100
_READS_AT_ONCE = 10_000
_WRITES_AT_ONCE = 1_000
_LATEST = 2**53
"""In milliseconds; what expires later never does."""


class RedisStore(Store):
    """Keep entries under their keys, with a prefix, outside of which nothing is ever touched.

    Nothing is asked of the server before it is needed, so opening neither waits nor fails. What
    has expired the server gives up by itself, by its own clock.
    """

    def __init__(
        self,
        address: Address,
        *,
        prefix: str = PREFIX,
        lookup_timeout: float = LOOKUP_TIMEOUT,
        timeout: float = TIMEOUT,
    ) -> None:
        if not prefix:
            raise InputError("prefix is empty; give some text that no other user's keys begin with")
        self._prefix = utf8(prefix)
        self._server = RedisServer(address, lookup_timeout=lookup_timeout, timeout=timeout)
        self._topology = self._server.topology
        self._usual_size = _LARGEST_READ // _MOST_READS

    @classmethod
    def open(cls, location: Location) -> Guarded:
        """Open `redis://user:password@host:6379/0` and its like, guarded."""
        location.only_options("lookup_timeout", "prefix", "timeout", *TLS_OPTIONS)
        lookup_timeout = location.seconds_option("lookup_timeout", LOOKUP_TIMEOUT)
        timeout = location.seconds_option("timeout", TIMEOUT)
        store = cls(
            Address.of(location),
            prefix=location.options.get("prefix", PREFIX),
            lookup_timeout=lookup_timeout,
            timeout=timeout,
        )
        # The store keeps its deadlines better than the guard: it knows when the loop was busy.
        return Guarded(store, lookup_timeout=max(timeout, lookup_timeout), timeout=10 * timeout)

    @functools.cached_property
    def leases(self) -> Leases:
        return RedisLeases(self._server, self._prefix + _LEASES)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._server.run(self._read(keys), lookup=True)

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._server.arun(self._read(keys), lookup=True)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        self._server.run(self._write(entries, expires))

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        await self._server.arun(self._write(entries, expires))

    def delete(self, keys: Sequence[str]) -> None:
        self._server.run(self._unlink(self._names(keys)))

    async def adelete(self, keys: Sequence[str]) -> None:
        await self._server.arun(self._unlink(self._names(keys)))

    def keys(self, prefix: str = "") -> Iterator[str]:
        listing = self._list(prefix)
        while (keys := self._server.run(listing.page())) is not None:
            yield from keys

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        listing = self._list(prefix)
        while (keys := await self._server.arun(listing.page())) is not None:
            for key in keys:
                yield key

    def clear(self, prefix: str) -> int:
        return self._server.run(self._clear(prefix))

    async def aclear(self, prefix: str) -> int:
        return await self._server.arun(self._clear(prefix))

    def size(self) -> int:
        """Tell how long keys and values are together; the server itself needs more for each."""
        return self._server.run(self._size())

    async def asize(self) -> int:
        return await self._server.arun(self._size())

    def prune(self, now: float) -> int:
        """Leave that to the server, which does so by itself."""
        return 0

    async def aprune(self, now: float) -> int:
        return 0

    async def aevict(self) -> int:
        return 0

    async def avacuum(self) -> None:
        return

    def diagnose(self) -> list[Finding]:
        return findings_of(self._server)

    def close(self) -> None:
        self._close_leases()
        self._server.close()

    async def aclose(self) -> None:
        self._close_leases()
        await self._server.aclose()

    def _names(self, keys: Iterable[str]) -> list[bytes]:
        return [self._prefix + key for key in utf8_each(keys)]

    def _read(self, keys: Sequence[str]) -> Flow[list[bytes | None]]:
        names = self._names(keys)
        values: list[bytes | None] = []
        for start in range(0, len(names), _READS_AT_ONCE):
            wanted = names[start : start + _READS_AT_ONCE]
            # The usual size keeps a reply, which has to come in time, from being too large.
            at_once = min(_MOST_READS, self._topology.at_once, _LARGEST_READ // self._usual_size)
            commands = _of_each(b"MGET", wanted, max(1, at_once))
            replies = yield from self._topology.send(commands)
            check(replies)
            values.extend(itertools.chain.from_iterable(replies))
        found = [len(value) for value in values if value is not None]
        if found:
            self._usual_size = (self._usual_size + sum(found) // len(found)) // 2 + 1
        return values

    def _write(self, entries: Mapping[str, bytes], expires: float) -> Flow[None]:
        end = max(1, math.ceil(expires * 1000)) if expires * 1000 < _LATEST else None
        ending = () if end is None else (b"PXAT", b"%d" % end)
        names = self._names(entries)
        if any(name.startswith(self._prefix + _LEASES) for name in names):
            raise StoreRefusedError("keys that begin with 'lease:' are not for entries")
        commands: list[Command] = []
        size = 0
        for name, value in zip(names, entries.values(), strict=True):
            commands.append((b"SET", name, value, *ending))
            size += len(value)
            if size > _LARGEST_WRITE or len(commands) == _WRITES_AT_ONCE:
                check((yield from self._topology.send(commands)))
                commands, size = [], 0
        if commands:
            check((yield from self._topology.send(commands)))

    def _unlink(self, names: Sequence[bytes]) -> Flow[int]:
        count = 0
        for start in range(0, len(names), _READS_AT_ONCE):
            part = names[start : start + _READS_AT_ONCE]
            commands = _of_each(b"UNLINK", part, self._topology.at_once)
            replies = yield from self._topology.send(commands)
            check(replies)
            count += sum(replies)
        return count

    def _clear(self, prefix: str) -> Flow[int]:
        listing = self._list(prefix)
        count = 0
        while (keys := (yield from listing.page())) is not None:
            count += yield from self._unlink(self._names(keys))
        return count

    def _size(self) -> Flow[int]:
        listing = self._list("")
        size = 0
        while (keys := (yield from listing.page())) is not None:
            names = self._names(keys)
            lengths = yield from self._topology.send([(b"STRLEN", name) for name in names])
            check(lengths)
            size += sum(lengths) + sum(map(len, names))
        return size

    def _list(self, prefix: str) -> "_Listing":
        return _Listing(self._topology, self._prefix, utf8(prefix))


class _Listing:
    """List keys page by page, each once, without those of leases."""

    def __init__(self, topology: Topology, own: bytes, prefix: bytes) -> None:
        self._topology = topology
        self._own = own
        self._pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", own + prefix) + b"*"
        self._nodes: list[Node] | None = None
        self._cursor = b"0"
        self._seen: set[bytes] = set()

    def page(self) -> Flow[list[str] | None]:
        """Give some keys, or None after the last."""
        if self._nodes is None:
            self._nodes = list((yield from self._topology.masters()))
        if not self._nodes:
            return None
        node = self._nodes[-1]
        scan = (b"SCAN", self._cursor, b"MATCH", self._pattern, b"COUNT", b"1000")
        (reply,) = (yield {node: [(*scan, b"TYPE", b"string")]})[node]
        check([reply])
        self._cursor, names = reply
        if self._cursor == b"0":
            self._nodes.pop()
        fresh = [name for name in names if name not in self._seen]
        self._seen.update(fresh)
        return [key for key in map(self._key, fresh) if key is not None]

    def _key(self, name: bytes) -> str | None:
        key = name[len(self._own) :]
        if key.startswith(_LEASES):
            return None
        try:
            return key.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None  # nobody reads it by that name


def _of_each(verb: bytes, names: Sequence[bytes], at_once: int) -> list[Command]:
    return [(verb, *names[start : start + at_once]) for start in range(0, len(names), at_once)]
