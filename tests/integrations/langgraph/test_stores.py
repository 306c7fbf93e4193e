"""L5: stores are asked in both colours, may fail, and forget what they are told to."""

from langgraph.types import CachePolicy

from askonce.core import flow
from askonce.errors import StoreError
from askonce.integrations.langgraph import NodeCache, node_key
from askonce.stores.memory import MemoryStore
from tests.integrations.langgraph.graphs import FULL, graph_of


async def test_l5_async_verbs_are_async_down_to_the_store():
    class Noting(MemoryStore):
        def __init__(self):
            super().__init__()
            self.seen = []

        async def aread(self, keys):
            self.seen.append("aread")
            return MemoryStore.read(self, keys)

        async def awrite(self, entries, *, expires=0):
            self.seen.append("awrite")
            MemoryStore.write(self, entries, expires=expires)

        async def aclear(self, prefix):
            self.seen.append("aclear")
            return MemoryStore.clear(self, prefix)

        def read(self, keys):
            raise AssertionError("it blocks")

        write = read

    cache = NodeCache(Noting())
    await cache.aset({FULL: ([("x", 1)], None)})
    assert await cache.aget([FULL]) == {FULL: [("x", 1)]}
    await cache.aclear()
    assert set(cache.store.seen) == {"aread", "awrite", "aclear"}


def test_l5_a_store_that_fails_is_a_miss_and_is_told():
    class Broken(MemoryStore):
        def read(self, keys):
            raise StoreError("gone")

        def write(self, entries, *, expires=0):
            raise StoreError("gone")

    events = []
    graph = graph_of(lambda state: {"y": 1}, NodeCache(Broken(), observe=events.append))
    assert graph.invoke({"x": 1})["y"] == 1
    assert "store_failed" in {event.kind for event in events}


def test_l5_clear_forgets_what_was_named_and_nothing_else(cache):
    names = [("a",), ("a", "b"), ("a,b",), ("ab",), ()]
    cache.set({(name, "key"): (index, None) for index, name in enumerate(names)})
    other = NodeCache(cache.store, namespace="other")
    other.set({(("a",), "key"): ("other", None)})
    cache.store.write({"_/chat/model/entry": b"answer"})
    cache.clear([("a",)])
    assert cache.get([(name, "key") for name in names]) == {
        (name, "key"): index for index, name in enumerate(names) if index
    }
    cache.clear([])
    assert len(cache.get([(name, "key") for name in names])) == 4
    cache.clear()
    assert cache.get([(name, "key") for name in names]) == {}
    assert other.get([(("a",), "key")]) == {(("a",), "key"): "other"}
    assert cache.store.read(["_/chat/model/entry"]) == [b"answer"]


def test_l5_values_expire(monkeypatch):
    cache = NodeCache("memory://")
    cache.set({FULL: (1, 60), (("ns",), "key"): (2, None)})
    clock = flow.now
    monkeypatch.setattr(flow, "now", lambda: clock() + 61)
    assert cache.get([FULL, (("ns",), "key")]) == {(("ns",), "key"): 2}


def test_ttl_of_a_policy_is_kept(monkeypatch):
    calls = []

    def node(state):
        calls.append(1)
        return {"y": 1}

    graph = graph_of(node, NodeCache("memory://"), policy=CachePolicy(key_func=node_key, ttl=60))
    clock = flow.now
    for later in (0, 59, 61):
        monkeypatch.setattr(flow, "now", lambda later=later: clock() + later)
        graph.invoke({"x": 1})
    assert len(calls) == 2
