"""Who asks the same at the same moment: one request, and nobody suffers from who asked first."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import askonce
from tests.http import server as servers
from tests.http.askers import body, until
from tests.http.flights.gates import Gate, at_once, nothing_is_left
from tests.http.server import Close, Hang, Script, chunked, completion, events, plain

THREADS = 16


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
