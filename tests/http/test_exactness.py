"""Whatever a provider sends, the caller sees exactly that, and no fragment is ever kept."""

import functools
import gzip
import json
import zlib

import brotli
import pytest
import zstandard

from tests.http import server as servers
from tests.http.askers import CHAT, body
from tests.http.server import DONE, Close, Reset, chunk, chunked, completion, events, plain, until_closed

WHOLE = json.dumps(completion()).encode()
STREAM = b"".join(events("Hel", "lo"))

zipped = functools.partial(gzip.compress, mtime=0)


def encoded(content: bytes, encoding: str):
    return plain(content, 200, ("Content-Encoding", encoding))


def deep(levels: int) -> bytes:
    return WHOLE[:-1] + b', "extra": ' + b"[" * levels + b"]" * levels + b"}"


def raw_deflate(content: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(content) + packing.flush()


KEPT = {
    "plain": lambda: plain(WHOLE),
    "plain with headers": lambda: plain(WHOLE, 200, ("Set-Cookie", "a=b"), ("X-Request-Id", "r1"), ("x-Odd", "é")),
    "plain with spaces": lambda: plain(b" \n" + json.dumps(completion(), indent=2).encode() + b"\n"),
    "plain in chunks": lambda: chunked([WHOLE[:40], WHOLE[40:]], kind="application/json"),
    "plain until closed": lambda: until_closed([WHOLE], kind="application/json"),
    "plain, gzip": lambda: encoded(zipped(WHOLE), "gzip"),
    "plain, deflate": lambda: encoded(zlib.compress(WHOLE), "deflate"),
    "plain, raw deflate": lambda: encoded(raw_deflate(WHOLE), "deflate"),
    "plain, twice encoded": lambda: encoded(zipped(zlib.compress(WHOLE)), "deflate, gzip"),
    "plain, br": lambda: encoded(brotli.compress(WHOLE), "br"),
    "plain, zstd": lambda: encoded(zstandard.compress(WHOLE), "zstd"),
    "plain, identity": lambda: encoded(WHOLE, "identity"),
    "events": lambda: chunked(events("Hel", "lo")),
    "events in one piece": lambda: chunked([STREAM]),
    "events, byte by byte": lambda: chunked([STREAM[i : i + 1] for i in range(len(STREAM))]),
    "events until closed": lambda: until_closed([STREAM]),
    "events with CRLF": lambda: chunked([STREAM.replace(b"\n", b"\r\n")]),
    "events with CR": lambda: chunked([STREAM.replace(b"\n", b"\r")]),
    "events with comments": lambda: chunked([b": hello\n\n" + STREAM.replace(b"data", b": ping\ndata")]),
    "events with a BOM": lambda: chunked([b"\xef\xbb\xbf" + STREAM]),
    "events over several lines": lambda: chunked([STREAM.replace(b', "choices"', b',\ndata: "choices"')]),
    "events, gzip": lambda: chunked([zipped(STREAM)], ("Content-Encoding", "gzip")),
    "events, br": lambda: chunked([brotli.compress(STREAM)], ("Content-Encoding", "br")),
    "events, zstd": lambda: chunked([zstandard.compress(STREAM)], ("Content-Encoding", "zstd")),
    "events, gzip in pieces": lambda: chunked(
        [zipped(STREAM)[i : i + 7] for i in range(0, len(zipped(STREAM)), 7)],
        ("Content-Encoding", "gzip"),
    ),
    "events and more after the end": lambda: chunked([STREAM, b": bye\n\n"]),
    "events, then the connection breaks": lambda: chunked([STREAM, Reset]),
    "another type of events": lambda: chunked([STREAM], kind="Text/Event-Stream; charset=utf-8"),
}

NOT_KEPT = {
    "not JSON": lambda: plain(b"<html>busy</html>", kind="text/html"),
    "nothing": lambda: plain(b""),
    "no object": lambda: plain(b"[1]"),
    "a name twice": lambda: plain(WHOLE[:-1] + b', "id": "again"}'),
    "NaN": lambda: plain(WHOLE[:-1] + b', "x": NaN}'),
    "too large a number": lambda: plain(WHOLE[:-1] + b', "x": 1e999}'),
    "too deep": lambda: plain(deep(200)),
    "much too deep": lambda: plain(deep(100_000)),
    "not UTF-8": lambda: plain(WHOLE.replace(b"Hello", b"Hell\xff")),
    "UTF-16": lambda: plain(WHOLE.decode().encode("utf-16")),
    "cut JSON until closed": lambda: until_closed([WHOLE[:-20]], kind="application/json"),
    "JSON whose end is not told": lambda: chunked([WHOLE, Close], kind="application/json"),
    "gzip whose end is not told": lambda: chunked(
        [zipped(WHOLE)[:-8], Close], ("Content-Encoding", "gzip"), kind="application/json"
    ),
    "gzip with a wrong checksum": lambda: chunked(
        [zipped(WHOLE)[:-8], bytes(8)], ("Content-Encoding", "gzip"), kind="application/json"
    ),
    "cut JSON": lambda: [*plain(WHOLE)[:1], WHOLE[:-20], Close],
    "an error with status 200": lambda: plain({"error": {"message": "no"}}),
    "an error beside an answer": lambda: plain(completion(error={"message": "no"})),
    "no choices": lambda: plain(completion(choices=[])),
    "unfinished": lambda: plain(completion(reason=None)),
    "cut at the greatest length": lambda: plain(completion(reason="length")),
    "filtered": lambda: plain(completion(reason="content_filter")),
    "an odd ending": lambda: plain(completion(reason="mystery")),
    "gzip that is none": lambda: encoded(WHOLE, "gzip"),
    "gzip that is cut": lambda: encoded(zipped(WHOLE)[:-30], "gzip"),
    "br that is cut": lambda: encoded(brotli.compress(WHOLE)[:-9], "br"),
    "zstd that is cut": lambda: encoded(zstandard.compress(WHOLE)[:-9], "zstd"),
    "an unknown encoding": lambda: encoded(WHOLE[::-1], "rot13"),
    "status 201": lambda: plain(WHOLE, 201),
    "status 400": lambda: plain({"error": {"message": "bad"}}, 400),
    "status 401": lambda: plain({"error": {"message": "who?"}}, 401),
    "status 429": lambda: plain({"error": {"message": "slow"}}, 429, ("Retry-After", "7")),
    "status 500": lambda: plain(b"oops", 500, kind="text/plain"),
    "status 500 with an answer": lambda: plain(WHOLE, 500),
    "events without the end mark": lambda: chunked(events("Hel", "lo")[:-1]),
    "events without a finish": lambda: chunked([*events("Hel")[:2], DONE]),
    "events until closed, cut": lambda: until_closed([STREAM[:-30]]),
    "events until closed, cut in the end mark": lambda: until_closed([STREAM[:-1]]),
    "events, the connection breaks": lambda: chunked([STREAM[:-40], Close]),
    "events, reset": lambda: chunked([STREAM[:-40], Reset]),
    "an error event": lambda: chunked([*events("Hel")[:2], b'data: {"error": {"message": "no"}}\n\n', DONE]),
    "an event named error": lambda: chunked([*events("Hel")[:2], b'event: error\ndata: {"message": "no"}\n\n', DONE]),
    "an event that is not JSON": lambda: chunked([*events("Hel")[:2], b"data: {oops\n\n", *events()[1:]]),
    "an event with a name twice": lambda: chunked([b'data: {"choices": [], "choices": []}\n\n', STREAM]),
    "an event that is not UTF-8": lambda: chunked([STREAM.replace(b"Hel", b"H\xff")]),
    "an event with NaN": lambda: chunked([chunk({"content": float("nan")}), STREAM]),
    "events, cut at the greatest length": lambda: chunked(events("Hel", reason="length")),
    "JSON called events": lambda: plain(WHOLE, kind="text/event-stream"),
    "events called JSON": lambda: plain(STREAM, kind="application/json"),
    "events, gzip that is cut": lambda: chunked(
        [zipped(STREAM)[:-20]], ("Content-Encoding", "gzip")
    ),
}


def came(asker, url, headers=None):
    """Tell what came of an answer, with its headers but ours; or how it failed."""
    request = body(stream=False)
    try:
        reply = asker.ask(url, request, headers)
    except Exception as error:
        return type(error).__name__
    return (
        reply.status,
        [pair for pair in reply.headers if pair[0] != "cache-status"],
        reply.raw,
        reply.content,
    )


@pytest.fixture
def exact(kind, maker):
    """Compare what comes through a cache with what comes without one; tell if it was kept."""

    def check(answer) -> bool:
        with servers.running(lambda asked: answer()) as provider:
            url = provider.address + CHAT
            without = came(maker(kind), url)
            asker = maker(kind, "memory://")
            assert came(asker, url) == without
            assert provider.count == 2
            first, second = provider.asked
            assert (first.headers, first.body) == (second.headers, second.body)
            again = came(asker, url)
            if provider.count == 3:
                assert again == without
                return False
            assert json.loads(again[3])["choices"][0]["message"]["content"]
            return True

    return check


@pytest.mark.parametrize("name", KEPT)
def test_what_is_whole_comes_as_it_is_and_is_kept(exact, name):
    assert exact(KEPT[name])


@pytest.mark.parametrize("name", NOT_KEPT)
def test_what_is_not_whole_comes_as_it_is_and_is_not_kept(exact, name):
    assert not exact(NOT_KEPT[name])


@pytest.mark.parametrize("kind", ["httpx2", "httpx-async"], indirect=True)
def test_50_megabytes_are_kept(exact):
    long = json.dumps(completion("long " * 10_000_000)).encode()
    assert exact(lambda: plain(long))


@pytest.mark.parametrize("kind", ["httpx2"], indirect=True)
def test_100_megabytes_are_not(exact):
    long = json.dumps(completion("long " * 20_000_000)).encode()
    assert not exact(lambda: plain(long))
