import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.flight import Flight, Flights
from tests.alone import alone, fork, join


def test_a_key_is_claimed_once_until_it_landed():
    flights = Flights()
    first = flights.claim(["a", "b"])
    assert first.keys == ("a", "b")
    second = flights.claim(["b", "c"])
    assert second.keys == ("c",)
    assert flights.claim(["a", "c"]) is None
    assert flights.under_way(["c", "a", "b", "d"]) == [second, first]
    flights.land(first, {"a": b"1"})
    assert first.landed.result(0) == {"a": b"1"}
    assert flights.under_way(["a", "b"]) == []
    assert flights.claim(["a"]).keys == ("a",)


def test_no_more_is_claimed_than_wanted():
    flights = Flights()
    assert flights.claim("abcd", limit=2).keys == ("a", "b")
    assert flights.claim("abcd", limit=2).keys == ("c", "d")
    assert flights.claim("abcd", limit=2) is None
    assert Flights().claim([]) is None


def test_landing_twice_keeps_the_first():
    flights = Flights()
    flight = flights.claim(["a"])
    flights.land(flight, {"a": b"1"})
    flights.land(flight, {})
    assert flight.landed.result(0) == {"a": b"1"}


def test_taking_over_leaves_the_newer_flight_in_the_air():
    flights = Flights()
    old = flights.claim(["a"])
    new = flights.take_over(["a"])
    assert flights.under_way(["a"]) == [new]
    flights.land(old, {})
    assert flights.under_way(["a"]) == [new]
    flights.land(new, {"a": b"1"})
    assert flights.under_way(["a"]) == []


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcde")), st.booleans()), max_size=12))
def test_no_key_is_in_two_flights_and_none_is_left_behind(turns):
    flights, air = Flights(), []
    for keys, land in turns:
        flight = flights.claim(sorted(keys))
        taken = {key for other in air for key in other.keys}
        assert set(flight.keys if flight else ()) == keys - taken
        if flight:
            air.append(flight)
        if land and air:
            flights.land(air.pop(0), {})
    for flight in air:
        flights.land(flight, {})
    assert flights.under_way("abcde") == []


def test_of_many_threads_one_gets_each_key():
    flights, start = Flights(), threading.Barrier(8)
    keys = [str(number) for number in range(200)]

    def work(_):
        start.wait()
        claimed = []
        while flight := flights.claim(keys, limit=3):
            claimed += flight.keys
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claimed = [key for part in pool.map(work, range(8)) for key in part]
    assert sorted(claimed) == sorted(keys)


def test_its_own_flight_is_nothing_to_wait_for():
    flight = Flight(["a"])
    assert flight.is_mine(blocking=True)
    assert flight.is_mine(blocking=False)
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(flight.is_mine, blocking=True).result()


async def test_another_task_of_the_loop_is_waited_for_only_without_blocking():
    flight = Flight(["a"])
    assert flight.is_mine(blocking=False)

    async def other():
        return flight.is_mine(blocking=False), flight.is_mine(blocking=True)

    assert await asyncio.create_task(other()) == (False, True)


def fork_in_the_air():
    flights = Flights()
    flight = flights.claim(["a"])

    def child():
        assert flights.under_way(["a"]) == []
        own = flights.claim(["a", "b"])
        assert own.keys == ("a", "b")
        flights.land(own, {})
        flights.land(flight, {})
        assert flights.claim(["a"]).keys == ("a",)

    join(fork(child))
    assert flights.under_way(["a"]) == [flight]
    assert flights.claim(["a"]) is None


def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent():
    alone(fork_in_the_air)


@pytest.mark.parametrize("entries", [{}, {"b": b"1"}])
def test_what_a_flight_did_not_bring_can_be_claimed_again(entries):
    flights = Flights()
    flights.land(flights.claim(["a", "b"]), entries)
    assert flights.claim(["a", "b"]).keys == ("a", "b")


def test_a_flight_handed_over_is_nobody_s_own():
    flights = Flights()
    flight = flights.claim(["a"])
    assert flight.is_mine(blocking=True)
    flight.hand_over()
    assert not flight.is_mine(blocking=True)
    assert not flight.is_mine(blocking=False)
