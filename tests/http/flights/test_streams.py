"""Streams that are closed midway, forgotten, read on or read twice."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.http import server as servers
from tests.http.askers import CHAT, body, until
from tests.http.flights.gates import nothing_is_left
from tests.http.server import Hang, Script, chunked, events


def open_stream(asker, url):
    """Send a request for a stream and read its first chunk; give the response and the reading."""
    request = asker.client.build_request("POST", url, json=body(stream=True))
    if not asker.is_async:
        response = asker.client.send(request, stream=True)
        reading = response.iter_raw()
        next(reading)
        return response, reading

    async def begin():
        response = await asker.client.send(request, stream=True)
        reading = response.aiter_raw()
        await anext(reading)
        return response, reading

    return asker.run(begin())


def test_a_stream_closed_midway_is_not_kept_and_not_waited_for(kind, maker, provider, url, store):
    asker = maker(kind, store)
    response, _ = open_stream(asker, url)
    asker.run(response.aclose()) if asker.is_async else response.close()
    assert list(store.keys()) == []
    nothing_is_left(store)
    assert maker("httpx2", store).ask(url, body()).status == 200
    assert provider.count == 2


@pytest.mark.parametrize("cyclic", [False, True])
def test_a_stream_forgotten_midway_is_not_waited_for(maker, provider, url, store, cyclic):
    asker = maker("httpx2", store)
    response, reading = open_stream(asker, url)
    (flight,) = store.flights._flights.values()
    if cyclic:
        response.reading = reading
    del response, reading
    gc.collect()
    assert flight.landed.result(30) == {}
    until(lambda: not store.leases._held)
    assert maker("httpx2", store).ask(url, body()).status == 200
    assert provider.count == 2


def test_a_stream_collected_by_a_thread_inside_of_a_lock(maker, provider, url, store):
    """Garbage is collected at any moment, also while this thread holds the lock of the flights."""
    response, reading = open_stream(maker("httpx2", store), url)
    (flight,) = store.flights._flights.values()
    streams = response.stream, response.stream._stream
    response.reading = reading
    del response, reading
    with store.flights._lock:
        gc.collect()
    del streams
    assert flight.landed.result(30) == {}
    until(lambda: not store.leases._held)


def test_a_response_that_nobody_reads_is_not_waited_for(maker, provider, url, store):
    asker = maker("httpx2", store)
    request = asker.client.build_request("POST", url, json=body(stream=True))
    response = asker.client.send(request, stream=True)
    (flight,) = store.flights._flights.values()
    del response
    gc.collect()
    assert flight.landed.result(30) == {}
    until(lambda: not store.leases._held)


def test_two_streams_open_side_by_side_in_one_thread(maker, provider, url, store):
    asker = maker("httpx2", store)
    first, reading = open_stream(asker, url)
    second, reading_too = open_stream(asker, url)
    assert b"".join(reading) == b"".join(reading_too) == b"".join(events("Hel", "lo")[1:])
    assert provider.count == 2
    assert asker.ask(url, body()).hit


def test_streams_opened_together_before_any_is_read(maker, provider, url, store):
    """The second waits for the first, whose reader waits for the second: that must end."""
    asker = maker("httpx2-async", store)

    async def run():
        requests = [asker.client.build_request("POST", url, json=body(stream=True)) for _ in "ab"]
        opened = await asyncio.gather(*[asker.client.send(one, stream=True) for one in requests])
        return [b"".join([chunk async for chunk in one.aiter_raw()]) for one in opened]

    assert asker.run(run()) == [b"".join(events("Hel", "lo"))] * 2
    assert provider.count == 2


def test_a_follower_gets_the_whole_of_a_stream_that_is_read_on(maker, provider, url, store):
    asker = maker("httpx2", store)
    response, reading = open_stream(asker, url)
    (flight,) = store.flights._flights.values()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(maker("httpx2", store).ask, url, body(stream=True))
        rest = list(reading)
        reply = following.result()
    assert reply.chunks == events("Hel", "lo")
    assert rest == events("Hel", "lo")[1:]
    assert provider.count == 1
    assert flight.held == 0


def test_a_stop_at_the_end_mark_keeps_the_answer(kind, maker, provider, url, store):
    """The provider sends the end mark and keeps the connection open; the reader closes."""
    provider.answer = Script([lambda asked: chunked([*events("Hel", "lo"), Hang])])
    asker = maker(kind, store)

    def stop():
        with asker.client.stream("POST", url, json=body(stream=True)) as response:
            for piece in response.iter_raw():
                if piece == servers.DONE:
                    break

    async def astop():
        async with asker.client.stream("POST", url, json=body(stream=True)) as response:
            async for piece in response.aiter_raw():
                if piece == servers.DONE:
                    break

    asker.run(astop()) if asker.is_async else stop()
    assert asker.ask(url, body(stream=True)).chunks == events("Hel", "lo")
    assert provider.count == 1


def test_a_response_iterated_twice_goes_on_where_it_was(maker, provider, url, store):
    asker = maker("httpx2", store)
    for _ in range(2):
        response = asker.client.send(
            asker.client.build_request("POST", url, json=body(stream=True)), stream=True
        )
        begin = [next(iter(response.stream))]
        rest = list(response.stream)
        response.close()
        assert begin + rest == events("Hel", "lo")
    assert provider.count == 1


def test_a_stream_that_would_begin_anew_is_not_recorded_twice(maker, store):
    class Anew(httpx2.SyncByteStream):
        def __iter__(self):
            yield from events("Hel", "lo")

    kind = {"content-type": "text/event-stream"}
    inner = httpx2.MockTransport(lambda request: httpx2.Response(200, headers=kind, stream=Anew()))
    asker = maker("httpx2", store, inner)
    url = "https://h" + CHAT
    request = asker.client.build_request("POST", url, json=body(stream=True))
    response = asker.client.send(request, stream=True)
    reading = iter(response.stream)
    assert [next(reading), *response.stream] == events("Hel", "lo")
    response.close()
    assert asker.ask(url, body(stream=True)).chunks == events("Hel", "lo")
