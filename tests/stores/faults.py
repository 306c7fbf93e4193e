"""A store that fails on command, in any verb of either colour, before or after its work."""

import functools
from collections import Counter

from askonce import Store, StoreError
from askonce.core.lease import Leases


class Faulty(Store):
    """Pass everything on to a store, except what a test wants to fail.

    `fails` is None or a function from a verb (of the sync colour) to "before", "after" or None.
    """

    def __init__(self, store, fails=None, error=StoreError("connection refused")):
        self.store = store
        self.fails = fails
        self.error = error
        self.asked = Counter()
        self.read_keys = []

    def go_down(self, *verbs, when="before"):
        self.fails = lambda verb: when if not verbs or verb in verbs else None

    def come_back(self):
        self.fails = None

    @functools.cached_property
    def leases(self):
        return None if self.store.leases is None else FaultyLeases(self)

    def do(self, verb, function, *arguments, **options):
        self.asked[verb] += 1
        when = self.fails and self.fails(verb)
        if when == "before":
            raise self.error
        outcome = function(*arguments, **options)
        if when == "after":
            raise self.error
        return outcome

    async def ado(self, verb, function, *arguments, **options):
        self.asked["a" + verb] += 1
        when = self.fails and self.fails(verb)
        if when == "before":
            raise self.error
        outcome = await function(*arguments, **options)
        if when == "after":
            raise self.error
        return outcome

    def read(self, keys):
        self.read_keys += keys
        return self.do("read", self.store.read, keys)

    def read_joined(self, keys):
        return self.do("read", self.store.read_joined, keys)

    def write(self, entries, *, expires=float("inf")):
        self.do("write", self.store.write, entries, expires=expires)

    def delete(self, keys):
        self.do("delete", self.store.delete, keys)

    def keys(self, prefix=""):
        return iter(self.do("keys", lambda: list(self.store.keys(prefix))))

    def clear(self, prefix):
        return self.do("clear", self.store.clear, prefix)

    def size(self):
        return self.do("size", self.store.size)

    def prune(self, now):
        return self.do("prune", self.store.prune, now)

    def evict(self):
        return self.do("evict", self.store.evict)

    def vacuum(self):
        self.do("vacuum", self.store.vacuum)

    def close(self):
        self.store.close()

    async def aread(self, keys):
        self.read_keys += keys
        return await self.ado("read", self.store.aread, keys)

    async def aread_joined(self, keys):
        return await self.ado("read", self.store.aread_joined, keys)

    async def awrite(self, entries, *, expires=float("inf")):
        await self.ado("write", self.store.awrite, entries, expires=expires)

    async def adelete(self, keys):
        await self.ado("delete", self.store.adelete, keys)

    async def akeys(self, prefix=""):
        async def listed():
            return [key async for key in self.store.akeys(prefix)]

        for key in await self.ado("keys", listed):
            yield key

    async def aclear(self, prefix):
        return await self.ado("clear", self.store.aclear, prefix)

    async def aclose(self):
        await self.store.aclose()


class FaultyLeases(Leases):
    def __init__(self, store):
        super().__init__()
        self._store = store

    def take(self, keys, holder, seconds):
        return self._store.do("take", self._store.store.leases.take, keys, holder, seconds)

    def renew(self, keys, holder, seconds):
        return self._store.do("renew", self._store.store.leases.renew, keys, holder, seconds)

    def drop(self, keys, holder):
        return self._store.do("drop", self._store.store.leases.drop, keys, holder)
