"""The flows of chat answers, held as conversations without a loop or a thread."""

import pytest

from askonce.chat import NOT_SHARED, Question, Terms, lookup_flow, refuse_flow, save_flow
from askonce.core.entry import NEVER
from askonce.core.flight import Flights
from askonce.core.flow import Call, Read, Tell, Wait, Write
from askonce.core.keys import Subject

QUESTION = Question.of(Subject("ns", "chat", "model"), b"hi")
OTHER = Question.of(Subject("ns", "chat", "model"), b"ho")
ANSWER = QUESTION.pack(b"answer", {"tokens": {}}, now=100.0, ttl=None)
BLOB = ANSWER[0]


class Leaders:
    """Say what the test wants to hear."""

    def __init__(self, *, may_lead=True, may_wait=True, gone=False):
        self.led = []
        self._may_lead, self._may_wait, self.gone = may_lead, may_wait, gone

    def may_lead(self):
        return self._may_lead

    def lead(self, flights, flight):
        self.led.append(flight)

    def may_wait(self):
        return self._may_wait

    def is_gone(self, flight):
        return self.gone


def begin(flights=None, leaders=None, elsewhere=None, now=200.0, wait=60.0):
    terms = Terms(flights or Flights(), leaders or Leaders(), now, wait)
    return lookup_flow(QUESTION, terms, bytes.decode, elsewhere)


def talk(flow, *outcomes):
    """Send the outcomes of the steps one by one; give the steps and what the flow returns."""
    steps = [next(flow)]
    try:
        for outcome in outcomes:
            steps.append(flow.send(outcome))
    except StopIteration as end:
        return steps, end.value
    return steps, ...


def kinds(steps):
    return [step.event.kind if isinstance(step, Tell) else type(step) for step in steps]


def test_a_hit_is_one_read():
    steps, answer = talk(begin(), [BLOB], None)
    assert steps[0] == Read((QUESTION.key,))
    assert kinds(steps) == [Read, "hit"]
    assert answer == "answer"


@pytest.mark.parametrize(
    "blob",
    [
        None,
        b"",
        b"rubbish",
        BLOB[:-8],
        OTHER.pack(b"answer", {}, now=100.0, ttl=None)[0],
        QUESTION.pack(b"answer", {}, now=100.0, ttl=50.0)[0],
    ],
)
def test_a_miss_reads_again_and_leads(blob):
    flights, leaders = Flights(), Leaders()
    steps, answer = talk(begin(flights, leaders), [blob], [blob])
    assert kinds(steps) == [Read, Read]
    assert answer is None
    assert leaders.led == flights.under_way([QUESTION.key])


def test_an_answer_that_landed_between_the_reads_is_a_hit():
    flights, leaders = Flights(), Leaders()
    steps, answer = talk(begin(flights, leaders), [None], [BLOB], None)
    assert (kinds(steps), answer) == ([Read, Read, "hit"], "answer")
    assert not leaders.led
    assert not flights.under_way([QUESTION.key])


def test_a_failure_between_claim_and_lead_ends_the_flight():
    flights = Flights()
    flow = begin(flights)
    talk(flow, [None])
    with pytest.raises(KeyboardInterrupt):
        flow.throw(KeyboardInterrupt())
    assert not flights.under_way([QUESTION.key])


def test_a_follower_gets_what_the_flight_brings():
    flights = Flights()
    flights.claim([QUESTION.key])
    steps, answer = talk(begin(flights), [None], None, {QUESTION.key: BLOB}, None)
    assert kinds(steps) == [Read, Wait, Wait, "hit"]
    assert [step.seconds for step in steps[1:3]] == [0.01, 0.02]
    assert answer == "answer"


def test_a_follower_of_an_answer_that_cannot_be_shared_asks_too():
    flights = Flights()
    flights.claim([QUESTION.key])
    steps, answer = talk(begin(flights), [None], {QUESTION.key: NOT_SHARED})
    assert (kinds(steps), answer) == ([Read, Wait], None)


def test_a_follower_takes_over_from_a_leader_that_is_gone():
    flights, leaders = Flights(), Leaders(gone=True)
    old = flights.claim([QUESTION.key])
    steps, answer = talk(begin(flights, leaders), [None], None, [None])
    assert (kinds(steps), answer) == ([Read, Wait, Read], None)
    assert old.landed.result(0) == {}
    assert leaders.led == flights.under_way([QUESTION.key]) != [old]


def test_after_two_leaders_that_failed_all_ask_for_themselves():
    flights, leaders = Flights(), Leaders(gone=True)
    flow = begin(flights, leaders)
    flights.claim([QUESTION.key])
    talk(flow, [None])
    old = flights.under_way([QUESTION.key])[0]
    flights.land(old, {})
    flights.claim([QUESTION.key])
    assert isinstance(flow.send({}), Wait)
    with pytest.raises(StopIteration):
        flow.send(None)
    assert not leaders.led
    assert not flights.under_way([QUESTION.key])


def test_a_follower_asks_at_its_own_deadline():
    flights, leaders = Flights(), Leaders()
    flight = flights.claim([QUESTION.key])
    flow = begin(flights, leaders, wait=0.3)
    steps, _ = talk(flow, [None])
    waited = []
    with pytest.raises(StopIteration):
        while isinstance(steps[-1], Wait):
            waited.append(steps[-1].seconds)
            steps.append(flow.send(None))
    assert 0.3 <= sum(waited) <= 0.35
    assert max(waited) == 0.05
    assert not leaders.led
    assert flights.under_way([QUESTION.key]) == [flight]


def test_who_leads_never_waits():
    flights = Flights()
    flights.claim([QUESTION.key])
    steps, answer = talk(begin(flights, Leaders(may_wait=False)), [None])
    assert (kinds(steps), answer) == ([Read], None)


def test_who_cannot_be_watched_never_leads():
    flights = Flights()
    steps, answer = talk(begin(flights, Leaders(may_lead=False)), [None])
    assert (kinds(steps), answer) == ([Read], None)
    assert not flights.under_way([QUESTION.key])


def test_what_is_found_elsewhere_is_stored_here():
    steps, answer = talk(begin(elsewhere="there"), [None], (BLOB, 500.0), True, None)
    assert steps[1:3] == [Call("there"), Write({QUESTION.key: BLOB}, 500.0)]
    assert (kinds(steps), answer) == ([Read, Call, Write, "hit"], "answer")
    steps, answer = talk(begin(elsewhere="there"), [None], None, [None])
    assert (kinds(steps), answer) == ([Read, Call, Read], None)


@pytest.mark.parametrize("stored", [True, False])
def test_saving_hands_the_answer_to_who_waits_even_if_the_store_fails(stored):
    flights = Flights()
    flight = flights.claim([QUESTION.key])
    steps, _ = talk(save_flow(QUESTION, ANSWER, flights), stored, None, None)
    assert steps[0] == Write({QUESTION.key: BLOB}, NEVER)
    assert kinds(steps[1:]) == ["miss", *["stored"] * stored]
    assert flight.landed.result(0) == {QUESTION.key: BLOB}


def test_a_cancelled_save_hands_the_answer_over():
    flights = Flights()
    flight = flights.claim([QUESTION.key])
    flow = save_flow(QUESTION, ANSWER, flights)
    next(flow)
    with pytest.raises(KeyboardInterrupt):
        flow.throw(KeyboardInterrupt())
    assert flight.landed.result(0) == {QUESTION.key: BLOB}


def test_a_refusal_lets_who_waits_go_on():
    flights = Flights()
    flight = flights.claim([QUESTION.key])
    steps, _ = talk(refuse_flow(QUESTION, "not_plain", "odd", flights), None, None)
    assert kinds(steps) == ["miss", "refused"]
    assert (steps[1].event.reason, steps[1].event.code) == ("odd", "not_plain")
    assert flight.landed.result(0) == {QUESTION.key: NOT_SHARED}


def test_hits_and_misses_tell_what_the_answer_cost():
    tokens = {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 2}
    blob, expires = QUESTION.pack(b"answer", {"tokens": tokens, "seconds": 1.5}, now=100.0, ttl=None)
    hit = talk(begin(), [blob], None)[0][-1].event
    miss = talk(save_flow(QUESTION, (blob, expires), Flights()), True, None, None)[0][1].event
    refusal = refuse_flow(QUESTION, "not_plain", "odd", Flights(), {"tokens": tokens, "seconds": 1.5})
    refused = talk(refusal, None, None)[0][0].event
    assert (hit.kind, miss.kind, refused.kind) == ("hit", "miss", "miss")
    for event in (hit, miss, refused):
        told = (event.input_tokens, event.output_tokens, event.cached_tokens, event.seconds)
        assert told == (7, 3, 2, 1.5)


@pytest.mark.parametrize("meta", [{}, {"tokens": 1}, {"tokens": {"input_tokens": "7"}}])
def test_what_is_not_known_is_none(meta):
    blob, _ = QUESTION.pack(b"answer", meta, now=100.0, ttl=None)
    hit = talk(begin(), [blob], None)[0][-1].event
    assert (hit.input_tokens, hit.price, hit.seconds) == (None, None, 0.0)


def test_the_entry_keeps_model_and_tokens():
    from askonce.core import entry

    blob, expires = QUESTION.pack(b"{}", {"tokens": {"total_tokens": 3}}, now=100.0, ttl=10.0)
    found = entry.unpack(blob)
    assert found.meta == {"tokens": {"total_tokens": 3}}
    assert found.expires == expires == 110.0
