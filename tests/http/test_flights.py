"""Who asks the same at the same moment: one request, and nobody suffers from who asked first."""

import asyncio
import gc
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

import askonce
from askonce.stores.memory import MemoryStore
from tests.http import server as servers
from tests.http.askers import CHAT, body, until
from tests.http.server import Close, Hang, Script, chat, chunked, completion, events, plain

THREADS = 16


class Gate:
    """Hold an answer back until it is opened; `reached` tells that somebody asks."""

    def __init__(self, answer=chat):
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._answer = answer

    def __call__(self, asked):
        self.reached.set()
        assert self.opened.wait(30)
        return self._answer(asked)


@pytest.fixture
def store(tmp_path):
    with askonce.open_store(f"sqlite:///{tmp_path}/cache.db") as store:
        yield store
        nothing_is_left(store)


def nothing_is_left(store):
    """Every flight has landed and every lease is released."""
    assert not store.flights._flights
    assert not store.leases._held
    with askonce.open_store(f"sqlite:///{store.path}") as other:
        keys = list(store.keys())
        assert other.leases.claim(keys) == keys
        other.leases.release(keys)


def at_once(pool, askers, url, request):
    return [pool.submit(asker.ask, url, request) for asker in askers]


@pytest.mark.parametrize("stream", [False, True])
def test_threads_share_one_request(provider, url, maker, store, stream):
    provider.answer = gate = Gate()
    askers = [maker("httpx2", store) for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        asking = at_once(pool, askers, url, body(stream=stream))
        gate.opened.set()
        replies = [one.result() for one in asking]
    assert provider.count == 1
    assert {reply.raw for reply in replies} == {replies[0].raw}


@pytest.mark.parametrize("stream", [False, True])
def test_tasks_share_one_request(provider, url, maker, store, stream):
    provider.answer = gate = Gate()
    asker = maker("httpx2-async", store)

    async def ask():
        request = asker.client.build_request("POST", url, json=body(stream=stream))
        return (await asker.client.send(request)).content

    async def all_ask():
        asking = [asyncio.ensure_future(ask()) for _ in range(THREADS)]
        await asyncio.to_thread(gate.reached.wait, 30)
        gate.opened.set()
        return await asyncio.gather(*asking)

    assert len(set(asker.run(all_ask()))) == 1
    assert provider.count == 1


def test_colours_libraries_and_presentations_share_one_request(provider, url, maker, store):
    provider.answer = gate = Gate()
    askers = [maker(kind, store) for kind in ["httpx2", "httpx2-async", "httpx", "httpx-async"] * 2]
    with ThreadPoolExecutor(len(askers)) as pool:
        asking = [
            pool.submit(asker.ask, url, body(stream=number % 2 == 0))
            for number, asker in enumerate(askers)
        ]
        gate.opened.set()
        replies = [one.result() for one in asking]
    assert provider.count == 1
    for number, reply in enumerate(replies):
        if number % 2:
            assert reply.json()["choices"][0]["message"]["content"] == "Hello"
        else:
            assert reply.raw.endswith(servers.DONE)


def lead_and_follow(kind, url, store, maker, gate, request, *, followers=4):
    """Let one ask, then others while it waits; give what became of all."""
    leader = maker(kind, store)
    askers = [maker("httpx2", store) for _ in range(followers)]
    with ThreadPoolExecutor(followers + 1) as pool:
        leading = pool.submit(leader.ask, url, request)
        assert gate.reached.wait(30)
        following = at_once(pool, askers, url, request)
        (flight,) = store.flights._flights.values()
        until(lambda: len(flight.landed._condition._waiters) == followers)
        gate.opened.set()
        return leading, [one.result() for one in following]


def lost(asked):
    return [Close]


def cut(asked):
    return chunked([*events("Hel")[:2], Close])


@pytest.mark.parametrize("fault", [lost, cut])
@pytest.mark.parametrize("stream", [False, True])
def test_a_leader_that_fails_is_followed_by_the_next(kind, maker, provider, url, store, fault, stream):
    gate = Gate(fault)
    provider.answer = Script([gate])
    leading, replies = lead_and_follow(kind, url, store, maker, gate, body(stream=stream))
    with pytest.raises(Exception, match="disconnected|closed"):
        leading.result()
    assert provider.count == 2
    assert {reply.status for reply in replies} == {200}


def test_a_leader_that_does_not_want_to_wait_is_followed_by_the_next(maker, provider, url, store):
    provider.answer = Script([lambda asked: [Hang]])
    leader = maker("httpx2", store)
    leader.client.timeout = 0.3
    followers = [maker("httpx2", store) for _ in range(4)]
    with ThreadPoolExecutor(5) as pool:
        leading = pool.submit(leader.ask, url, body())
        until(lambda: provider.count)
        following = at_once(pool, followers, url, body())
        with pytest.raises(leader.library.ReadTimeout):
            leading.result()
        assert {one.result().status for one in following} == {200}
    assert provider.count == 2


def short(asked):
    return plain(completion(reason="length"))


def broken(asked):
    return chunked([*events("Hel")[:2], b'data: {"error": {"message": "no"}}\n\n'])


@pytest.mark.parametrize("answer", [short, broken])
def test_an_answer_that_may_not_be_kept_is_for_one_and_the_others_ask_at_once(
    maker, provider, url, store, answer
):
    together = threading.Barrier(4, timeout=30)

    def all_together(asked):
        together.wait()
        return answer(asked)

    gate = Gate(answer)
    provider.answer = Script([gate], rule=all_together)
    leading, replies = lead_and_follow("httpx2", url, store, maker, gate, body())
    assert provider.count == 5
    assert {reply.status for reply in [leading.result(), *replies]} == {200}


def test_who_waited_for_another_process_gets_its_answer_and_lets_go(kind, maker, provider, url, store):
    """Two openings of one store are to each other as two processes."""
    provider.answer = gate = Gate()
    with askonce.open_store(f"sqlite:///{store.path}") as other, ThreadPoolExecutor(2) as pool:
        leading = pool.submit(maker("httpx2", store).ask, url, body())
        assert gate.reached.wait(30)
        following = pool.submit(maker(kind, other).ask, url, body())
        until(lambda: other.flights._flights)
        gate.opened.set()
        assert following.result().raw == leading.result().raw
        nothing_is_left(other)
    assert provider.count == 1


def test_a_cancelled_task_that_waits_for_another_process_lets_go(maker, provider, url, store):
    provider.answer = gate = Gate()
    with askonce.open_store(f"sqlite:///{store.path}") as other, ThreadPoolExecutor(1) as pool:
        leading = pool.submit(maker("httpx2", store).ask, url, body())
        assert gate.reached.wait(30)
        asker = maker("httpx2-async", other)

        async def run():
            asking = asyncio.ensure_future(asker.client.post(url, json=body()))
            while not other.flights._flights:
                await asyncio.sleep(0.001)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            # A claim that was under way is granted and let go before this returns.
            await asyncio.get_running_loop().shutdown_default_executor()

        asker.run(run())
        assert not other.flights._flights
        gate.opened.set()
        assert leading.result().status == 200
        until(lambda: not other.leases._held)
    assert provider.count == 1


def test_an_error_is_for_one(kind, maker, provider, url, store):
    gate = Gate(lambda asked: plain({"error": {"message": "slow"}}, 429))
    provider.answer = Script([gate])
    leading, replies = lead_and_follow(kind, url, store, maker, gate, body())
    assert leading.result().status == 429
    assert {reply.status for reply in replies} == {200}


def test_a_provider_that_fails_fails_for_each_by_itself(maker, provider, url, store):
    gate = Gate(lost)
    provider.answer = Script([gate], rule=lost)
    askers = [maker("httpx2", store) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        leading = pool.submit(askers[0].ask, url, body())
        assert gate.reached.wait(30)
        following = at_once(pool, askers[1:], url, body())
        gate.opened.set()
        for one in [leading, *following]:
            assert isinstance(one.exception(), askers[0].library.RemoteProtocolError)
    assert provider.count == 8


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_follower_s_deadline_is_its_own(kind, maker, provider, url, store, seconds):
    provider.answer = Script([lambda asked: [Hang]])
    leader = maker("httpx2", store)
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(leader.ask, url, body())
        until(lambda: provider.count)
        impatient = maker(kind, store, wait=seconds)
        assert impatient.ask(url, body()).status == 200
        assert not leading.done()
        provider.close()
        assert leading.exception() is not None


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


@pytest.mark.parametrize("at", ["sending", "reading"])
def test_a_cancelled_task_lets_go(maker, provider, url, store, at):
    gate = Gate()
    if at == "sending":
        provider.answer = Script([gate])
    else:
        provider.answer = Script([lambda asked: chunked([events("Hel")[0], Hang])])
    asker = maker("httpx2-async", store)

    async def cancelled():
        started = asyncio.Event()

        async def ask():
            async with asker.client.stream("POST", url, json=body(stream=True)) as response:
                async for _ in response.aiter_raw():
                    started.set()

        asking = asyncio.ensure_future(ask())
        if at == "sending":
            await asyncio.to_thread(gate.reached.wait, 30)
        else:
            await started.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asker.run(cancelled())
    gate.opened.set()
    nothing_is_left(store)
    assert maker("httpx2", store).ask(url, body()).status == 200
    assert provider.count == 2


def test_an_answer_that_is_still_being_stored_is_waited_for(maker, provider, url):
    """Also by the task that read it and was cut short while it was stored."""

    class Slow(MemoryStore):
        async def awrite(self, entries, *, expires=math.inf):
            storing.set()
            await opened.wait()
            self.write(entries, expires=expires)

    asker = maker("httpx2-async", Slow())
    storing, opened = asyncio.Event(), asyncio.Event()

    async def cut_short(limit):
        await storing.wait()
        limit.reschedule(0)

    async def store_when_awaited():
        (flight,) = asker.cache.store.flights._flights.values()
        while not flight.is_awaited:
            await asyncio.sleep(0.001)
        opened.set()

    async def run():
        async with asker.client.stream("POST", url, json=body(stream=True)) as response:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as beside:
                    beside.create_task(cut_short(limit))
                    async for _ in response.aiter_raw():
                        pass
        async with asyncio.TaskGroup() as beside:
            beside.create_task(store_when_awaited())
            return await asker.client.post(url, json=body())

    assert asker.run(run()).headers["cache-status"] == "askonce; fwd=miss; collapsed"
    assert provider.count == 1


def test_a_cancelled_follower_harms_nobody(maker, provider, url, store):
    provider.answer = gate = Gate()
    asker = maker("httpx2-async", store)

    async def ask():
        return await asker.client.post(url, json=body())

    async def run():
        leading = asyncio.ensure_future(ask())
        await asyncio.to_thread(gate.reached.wait, 30)
        followers = [asyncio.ensure_future(ask()) for _ in range(3)]
        for _ in range(100):
            await asyncio.sleep(0)
        followers[0].cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await followers[0]
        return [(await task).status_code for task in [leading, *followers[1:]]]

    assert asker.run(run()) == [200] * 3
    assert provider.count == 1


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
