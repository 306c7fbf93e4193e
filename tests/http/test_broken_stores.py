"""A store that fails never breaks a call, and says so to the observer."""

import pytest

import askonce
from askonce.core import codecs, entry
from askonce.core.lease import Leases
from askonce.stores.memory import MemoryStore
from tests.http import server as servers
from tests.http.askers import body
from tests.http.embedding import embed, right
from tests.http.server import Close, Script, chunked, events


class Broken(MemoryStore):
    """Fail in what is named."""

    def __init__(self, *verbs):
        super().__init__()
        self.verbs = verbs

    def _fail(self, verb):
        if verb in self.verbs:
            raise OSError(f"no {verb} today")

    def read(self, keys):
        self._fail("read")
        return super().read(keys)

    def write(self, entries, *, expires=entry.NEVER):
        self._fail("write")
        super().write(entries, expires=expires)

    @property
    def leases(self):
        return BrokenLeases() if "leases" in self.verbs else None


class BrokenLeases(Leases):
    def take(self, keys, holder, seconds):
        raise OSError("no leases today")

    renew = drop = take


@pytest.mark.parametrize("verbs", [["read"], ["write"], ["read", "write"], ["leases"], ["read", "write", "leases"]])
@pytest.mark.parametrize("stream", [False, True])
def test_answers_come_all_the_same(kind, maker, provider, url, verbs, stream):
    told = []
    asker = maker(kind, Broken(*verbs), observe=told.append)
    for _ in range(2):
        reply = asker.ask(url, body(stream=stream), {"askonce-tags": "a"})
        assert reply.status == 200
        assert b"Hel" in reply.raw
    assert provider.count == (1 if verbs == ["leases"] else 2)
    assert "store_failed" in {event.kind for event in told}
    provider.answer = Script([lambda asked: chunked([*events("Hel")[:2], Close])])
    with pytest.raises(asker.library.RemoteProtocolError):
        asker.ask(url, body("cut", stream=stream))
    assert asker.ask(url, body("cut", stream=stream)).status == 200


@pytest.mark.parametrize("verbs", [["read"], ["write"], ["read", "write", "leases"]])
def test_vectors_come_all_the_same(kind, maker, verbs):
    with servers.running(embed) as provider:
        asker = maker(kind, Broken(*verbs))
        for batch in (["a", "b", "a"], ["b", "c"]):
            right(asker.ask(provider.address + "/v1/embeddings", {"model": "m", "input": batch}), batch)


def test_an_observer_that_fails_breaks_nothing(asker, provider, url, caplog):
    def fail(event):
        raise ValueError("no")

    asker.cache.observe = fail
    assert asker.ask(url, body()).status == 200
    assert asker.ask(url, body()).hit


def damaged(blob):
    found = entry.unpack(blob)
    yield b""
    yield blob[:-8]
    yield blob[:60] + b"x" + blob[61:]
    for meta in ({"headers": 5}, {"tags": [1]}, {"usage": {"a": 1}}, {"seconds": "long"}):
        yield entry.pack(entry.Entry(found.payload, found.codec, found.created, binding=found.binding, meta=meta))
    for codec, payload in (
        (codecs.JSON, b"no JSON"),
        (codecs.EVENTS, b"no events"),
        (codecs.EVENTS, b"data: {}\n\n"),
        (codecs.FLOAT32, b"1234"),
        (99, found.payload),
    ):
        yield entry.pack(entry.Entry(payload, codec, found.created, binding=found.binding))
    yield entry.pack(entry.Entry(found.payload, found.codec, found.created, binding=found.binding ^ 1))


def test_a_damaged_entry_is_a_miss_that_heals(asker, provider, url):
    asker.ask(url, body())
    store = asker.cache.store
    (key,) = store.keys()
    whole = store.read([key])[0]
    for number, blob in enumerate(damaged(whole), start=1):
        store.write({key: blob})
        # What is kept as it is asked for is given as it was written; the other has to be read.
        found = entry.unpack(blob)
        stream = found is None or found.codec != codecs.EVENTS
        assert b"Hel" in asker.ask(url, body(stream=stream)).raw
        assert provider.count == number + 1
        assert asker.ask(url, body()).hit


def test_to_retire_and_to_forget_in_a_broken_store_is_an_error():
    """Else the caller would believe that it is done."""
    cache = askonce.HTTPCache(Broken("read", "write"))
    with pytest.raises(OSError, match="today"):
        cache.retire("a")
    with pytest.raises(OSError, match="today"):
        cache.forget(url="https://h/v1/chat/completions", body=body())


def test_a_closed_store_is_a_broken_store(kind, maker, provider, url, tmp_path):
    store = askonce.open_store(f"sqlite:///{tmp_path}/cache.db")
    asker = maker(kind, store)
    asker.ask(url, body())
    store.close()
    for _ in range(2):
        assert asker.ask(url, body()).status == 200
    assert provider.count == 3
