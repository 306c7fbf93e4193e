"""The flows of leading, held as conversations without a loop or a thread."""

import pytest

from askonce.chat import NOT_SHARED, Question
from askonce.core.entry import NEVER
from askonce.core.flight import Flights
from askonce.core.flow import Claim, Pause, Read, Release, Tell, Wait, Write
from askonce.core.keys import Subject
from askonce.leading import Lead, find_flow, give_up_flow, keep_flow, refuse_flow

QUESTION = Question.of(Subject("ns", "chat", "model"), b"hi")
KEYS = (QUESTION.key,)
PACKED = QUESTION.pack(b"answer", {}, now=100.0, ttl=None)
BLOB = PACKED[0]


def opened(blob):
    payload = QUESTION.unpack(blob, now=200.0)
    return None if payload is None else payload.decode()


def begin(flights=None, **terms):
    return find_flow(QUESTION, opened, flights or Flights(), **{"wait": 60.0, **terms})


def talk(flow, *outcomes):
    """Send the outcomes of the steps one by one; give the steps and what the flow returns."""
    steps = [next(flow)]
    try:
        for outcome in outcomes:
            steps.append(flow.throw(outcome) if isinstance(outcome, BaseException) else flow.send(outcome))
    except StopIteration as end:
        return steps, end.value
    return steps, ...


def kinds(steps):
    return [step.event.kind if isinstance(step, Tell) else type(step) for step in steps]


def led(flights, *, granted=KEYS):
    _, lead = talk(begin(flights), [None], granted, [None])
    return lead


def test_a_hit_is_one_read():
    steps, answer = talk(begin(), [BLOB], None)
    assert (kinds(steps), answer) == ([Read, "hit"], "answer")


def test_a_miss_leads_after_it_has_claimed_and_looked_again():
    flights = Flights()
    steps, lead = talk(begin(flights), [None], KEYS, [None])
    assert kinds(steps) == [Read, Claim, Read]
    assert steps[1] == Claim(KEYS, kept=True)
    assert lead.leased
    assert flights.under_way(KEYS) == [lead.flight]


def test_what_came_in_between_is_given_to_all_and_the_claim_released():
    flights = Flights()
    flow = begin(flights)
    talk(flow, [None], KEYS)
    (flight,) = flights.under_way(KEYS)
    steps, answer = [flow.send([BLOB])], None
    with pytest.raises(StopIteration) as end:
        while True:
            steps.append(flow.send(None))
    assert end.value.value == "answer"
    assert kinds(steps) == [Release, "hit"]
    assert flight.landed.result(0) == {QUESTION.key: BLOB}


def test_another_processs_call_is_waited_for():
    steps, answer = talk(begin(), [None], (), [None], None, (), [BLOB], None)
    assert (kinds(steps), answer) == ([Read, Claim, Read, Pause, Claim, Read, "hit"], "answer")


def test_another_process_is_waited_for_so_long_and_no_longer():
    steps, lead = talk(begin(wait=0.005), [None], (), [None], None, (), [None])
    assert kinds(steps) == [Read, Claim, Read, Pause, Claim, Read]
    assert not lead.leased


def test_an_error_while_claiming_leaves_nothing_behind():
    flights = Flights()
    flow = begin(flights)
    talk(flow, [None], KEYS)
    (flight,) = flights.under_way(KEYS)
    assert flow.throw(KeyboardInterrupt()) == Release(KEYS)
    with pytest.raises(KeyboardInterrupt):
        flow.send(None)
    assert flight.landed.result(0) == {}
    assert not flights.under_way(KEYS)


def test_who_finds_a_flight_waits_for_what_it_brings():
    flights = Flights()
    lead = led(flights)
    steps, answer = talk(begin(flights), [None], {QUESTION.key: BLOB}, None)
    assert (kinds(steps), answer) == ([Read, Wait, "hit"], "answer")
    assert steps[1].flight is lead.flight


def test_what_is_not_shared_makes_all_ask():
    flights = Flights()
    led(flights)
    _, lead = talk(begin(flights), [None], {QUESTION.key: NOT_SHARED})
    assert lead == Lead(QUESTION)


def test_the_next_in_line_leads():
    flights = Flights()
    first = led(flights)
    flow = begin(flights)
    talk(flow, [None])
    talk(give_up_flow(first, flights), None)
    steps = [flow.send({})]
    assert kinds(steps) == [Claim]


def test_patience_with_leaders_ends():
    flights = Flights()
    led(flights)
    steps, lead = talk(begin(flights), [None], {}, {}, {})
    assert (kinds(steps), lead) == ([Read, Wait, Wait, Wait], Lead(QUESTION))


def test_a_leader_whose_caller_does_not_read_on_is_not_waited_for():
    flights = Flights()
    first = led(flights)
    first.hold(1)
    steps, lead = talk(begin(flights), [None], *[None] * 5)
    assert (kinds(steps), lead) == ([Read, *[Wait] * 5], Lead(QUESTION))


def test_a_leader_at_work_is_waited_for_to_the_end():
    flights = Flights()
    led(flights)
    steps, lead = talk(begin(flights, wait=2.0), [None], *[None] * 8)
    assert (kinds(steps), lead) == ([Read, *[Wait] * 8], Lead(QUESTION))


def test_who_must_not_wait_is_told_to_come_back():
    flights = Flights()
    led(flights)
    steps, lead = talk(begin(flights, patient=False), [None])
    assert (kinds(steps), lead) == ([Read], Lead(QUESTION))


@pytest.mark.parametrize("stored", [True, False])
def test_keeping_writes_lands_and_releases(stored):
    flights = Flights()
    lead = led(flights)
    steps, _ = talk(keep_flow(lead, PACKED, flights), stored, None, None, None)
    assert steps[:2] == [Write({QUESTION.key: BLOB}, NEVER), Release(KEYS)]
    assert kinds(steps[2:]) == ["miss", *["stored"] * stored]
    assert lead.flight.landed.result(0) == {QUESTION.key: BLOB}


def test_a_write_that_is_cut_off_lands_and_releases_all_the_same():
    flights = Flights()
    lead = led(flights)
    flow = keep_flow(lead, PACKED, flights)
    next(flow)
    assert flow.throw(KeyboardInterrupt()) == Release(KEYS)
    with pytest.raises(KeyboardInterrupt):
        flow.send(None)
    assert lead.flight.landed.result(0) == {QUESTION.key: BLOB}


def test_refusing_tells_why():
    flights = Flights()
    lead = led(flights, granted=())
    assert lead is ...  # Nothing was granted, so it waits.
    lead = Lead(QUESTION, flights.take_over(KEYS))
    steps, _ = talk(refuse_flow(lead, "malformed", "bad", flights, {"seconds": 2.0}), None, None)
    assert kinds(steps) == ["miss", "refused"]
    told = [(step.event.reason, step.event.code) for step in steps]
    assert told == [("", ""), ("bad", "malformed")]
    assert steps[0].event.seconds == 2.0
    assert lead.flight.landed.result(0) == {QUESTION.key: NOT_SHARED}


def test_a_lead_without_a_flight_owes_nothing():
    flights = Flights()
    Lead(QUESTION).hold(1)
    steps, _ = talk(keep_flow(Lead(QUESTION), PACKED, flights), True, None, None)
    assert kinds(steps) == [Write, "miss", "stored"]
    steps, _ = talk(give_up_flow(Lead(QUESTION), flights), None)
    assert kinds(steps) == ["miss"]


def test_what_is_over_is_not_told_again():
    flights = Flights()
    lead = led(flights)
    talk(keep_flow(lead, PACKED, flights), True, None, None, None)
    steps, _ = talk(give_up_flow(lead, flights), None)
    assert kinds(steps) == [Release]
