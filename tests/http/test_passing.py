"""What is not for the cache passes by it: untouched, as it comes, byte for byte."""

import importlib
import itertools
import json
import socket
import threading

import pytest

import askonce
from tests.http import server as servers
from tests.http.askers import CHAT, body, make
from tests.http.server import DONE, chunk, chunked, plain

ODD = {
    "not JSON": b"model=m&prompt=Hello",
    "nothing": b"",
    "a list": b"[1, 2]",
    "a name twice": b'{"model": "m", "model": "n", "messages": []}',
    "a name twice inside": b'{"model": "m", "messages": [{"role": "user", "role": "system"}]}',
    "NaN": b'{"model": "m", "messages": [], "temperature": NaN}',
    "infinity": b'{"model": "m", "messages": [], "temperature": -Infinity}',
    "too large a number": b'{"model": "m", "messages": [], "temperature": 1e400}',
    "too deep": b'{"model": "m", "messages": ' + b"[" * 500 + b"]" * 500 + b"}",
    "much too deep": b'{"model": "m", "messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "not UTF-8": b'{"model": "m", "messages": ["\xff"]}',
    "a BOM": b'\xef\xbb\xbf{"model": "m", "messages": []}',
    "gzip": bytes.fromhex("1f8b08000000000000ff"),
    "hosted tools": json.dumps(body(tools=[{"type": "web_search"}])).encode(),
    "to be stored there": json.dumps(body(store=True)).encode(),
    "an unclear stream": json.dumps(body(stream="yes")).encode(),
}


def same(provider):
    first, second = provider.asked
    assert (first.method, first.target) == (second.method, second.target)
    assert (first.headers, first.body) == (second.headers, second.body)


@pytest.mark.parametrize("name", ODD)
def test_odd_requests_are_sent_as_they_are_and_nothing_is_kept(kind, maker, name):
    with servers.running(lambda asked: plain(b'{"odd": "answer"}', 418)) as provider:
        url = provider.address + CHAT
        without = maker(kind).ask(url, ODD[name], {"X-Some": "a", "Cache-Control": "max-age=60"})
        asker = maker(kind, "memory://")
        reply = asker.ask(url, ODD[name], {"X-Some": "a"})
        assert (reply.status, reply.raw) == (without.status, without.raw)
        assert (reply.header("cache-status") or "").startswith("askonce; fwd=bypass; detail=")
        first, second = provider.asked
        assert second.body == first.body == ODD[name]
        assert second.headers == [pair for pair in first.headers if pair[0].lower() != "cache-control"]
        asker.ask(url, ODD[name])
        assert provider.count == 3
        assert list(asker.cache.store.keys()) == []


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/v1/models", b""),
        ("GET", "/v1/chat/completions", b""),
        ("DELETE", "/v1/models/m", b""),
        ("PUT", "/v1/files/1", b'{"a": 1}'),
        ("POST", "/v1/audio/transcriptions", b"--x\r\n\r\nsound\r\n--x--"),
        ("POST", "/v1/images/generations", b'{"prompt": "a cat"}'),
        ("POST", "/v1/messages/count_tokens", b'{"messages": []}'),
        ("POST", "/v1/chat/completions/1", b"{}"),
    ],
)
def test_all_else_passes_untouched(kind, maker, method, path, content):
    sound = bytes(range(256)) * 100

    def answer(asked):
        return plain(sound, 200, ("Cache-Status", "near; hit"), kind="audio/mpeg")

    with servers.running(answer) as provider:
        url = provider.address + path + "?b=2&a=1&a=%20"
        wishes = {"Cache-Control": "no-cache", "X-Some": "a, b"}
        without = maker(kind).ask(url, content, wishes, method)
        reply = maker(kind, "memory://").ask(url, content, wishes, method)
        assert reply.headers == without.headers
        assert reply.raw == without.raw == sound
        same(provider)


def test_headers_for_the_cache_are_passed_on_to_nobody(asker, provider, url):
    own = {"Askonce-Namespace": "n", "askonce-ttl": "5", "ASKONCE-TAGS": "a", "Askonce-Sample": "1"}
    asker.ask(url, body(), {**own, "Cache-Control": "max-age=5"})
    asker.ask(url, body(tools=[{"type": "mcp"}]), {**own, "Cache-Control": "max-age=5"})
    asker.ask(provider.address + "/v1/embeddings", {"model": "m", "input": "a"}, own)
    asker.ask(provider.address + "/v1/models", {}, own)
    assert provider.count == 4
    for asked in provider.asked:
        assert not [name for name, _ in asked.headers if name.lower().startswith("askonce")]
        assert asked.header("cache-control") is None


def test_caches_nearer_to_the_provider_keep_their_status(kind, maker):
    nearer = ("Cache-Status", "edge; hit")
    with servers.running(lambda asked: plain(servers.completion(), 200, nearer)) as provider:
        reply = maker(kind, "memory://").ask(provider.address + CHAT, body())
        assert reply.header("cache-status") == "edge; hit, askonce; fwd=miss"


def test_an_upload_is_not_read_into_memory(kind, maker):
    """The provider has the first piece of the body before the second is made."""
    arrived = threading.Event()
    asker = maker(kind, "memory://")

    def pieces():
        yield b"first"
        assert arrived.wait(30)
        yield b"second"

    async def apieces():
        for piece in pieces():
            yield piece

    with socket.create_server(("127.0.0.1", 0)) as listener:
        got = []

        def serve():
            connection, _ = listener.accept()
            with connection:
                while b"first" not in b"".join(got):
                    got.append(connection.recv(65536))
                arrived.set()
                while not b"".join(got).endswith(b"0\r\n\r\n"):
                    got.append(connection.recv(65536))
                connection.sendall(b"".join(plain(b"{}")))

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/files"
        content = apieces() if asker.is_async else pieces()
        request = asker.client.build_request("POST", url, content=content, headers={"askonce-ttl": "5"})
        response = asker.send(request)
        thread.join()
    assert response.status_code == 200
    assert b"transfer-encoding: chunked" in b"".join(got).lower()
    assert b"askonce" not in b"".join(got).lower()


def steps_of(asker, request, seen):
    """Read a streamed answer chunk by chunk, telling of each."""

    def sync():
        with asker.client.stream(**request) as response:
            for piece in response.iter_raw():
                seen(piece)

    async def colour():
        async with asker.client.stream(**request) as response:
            async for piece in response.aiter_raw():
                seen(piece)

    asker.run(colour()) if asker.is_async else sync()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/v1/audio/speech"])
def test_each_chunk_reaches_the_caller_before_the_next_is_sent(kind, maker, path, cached):
    """By the order of events: the provider sends a chunk only when the caller has the last one."""
    turns = [threading.Event() for _ in range(4)]
    pieces = [chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop"), DONE]

    def answer(asked):
        def paced():
            for piece, turn in zip(pieces, turns, strict=True):
                yield piece
                assert turn.wait(30)

        return chunked(paced())

    got = []

    def seen(piece):
        turns[len(got)].set()
        got.append(piece)

    with servers.running(answer) as provider:
        asker = maker(kind, "memory://" if cached else None)
        request = {"method": "POST", "url": provider.address + path, "json": body(stream=True)}
        steps_of(asker, request, seen)
    assert got == pieces


def test_a_replayed_stream_has_a_chunk_for_each_event(asker, provider, url):
    first = asker.ask(url, body(stream=True))
    second = asker.ask(url, body(stream=True))
    assert second.hit
    assert second.chunks == servers.events("Hel", "lo")
    assert second.raw == first.raw


def test_a_response_read_before_it_is_passed_on_is_recorded_too(kind, maker):
    """Transports of tests give responses that are whole from the start."""
    library = importlib.import_module(kind.partition("-")[0])
    asked = itertools.count()

    def handler(request):
        next(asked)
        return library.Response(200, json=servers.completion())

    asker = maker(kind, "memory://", library.MockTransport(handler))
    first = asker.ask("https://api.example.com" + CHAT, body())
    assert asker.ask("https://api.example.com" + CHAT, body()).json() == first.json()
    assert next(asked) == 1


def test_the_caller_s_own_transport_and_store_stay_open(tmp_path):
    with askonce.open_store(f"sqlite:///{tmp_path}/cache.db") as store:
        cache = askonce.HTTPCache(store)
        make("httpx2", cache).close()
        assert store.read(["a"]) == [None]
        owner = askonce.HTTPCache(f"sqlite:///{tmp_path}/cache.db")
        make("httpx2", owner).close()
        assert owner.store.read(["a"]) == [None]
        owner.close()
        with pytest.raises(askonce.StoreError):
            owner.store.read(["a"])


def test_what_was_opened_for_a_client_is_closed_with_it(kind, tmp_path):
    asker = make(kind, f"sqlite:///{tmp_path}/cache.db")
    cache = asker.cache
    asker.close()
    with pytest.raises(askonce.StoreError):
        cache.store.read(["a"])
