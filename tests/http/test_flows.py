"""The flows of an answer as conversations: whatever happens at whichever step, nothing is left."""

import pytest

from askonce.chat import NOT_SHARED, Question
from askonce.core.flight import Flights
from askonce.core.flow import Claim, Pause, Read, Release, Tell, Wait, Write
from askonce.core.keys import Subject
from askonce.http import flows
from askonce.http.answer import Answer
from askonce.http.control import Policy
from askonce.http.flows import Found, Lead, Terms

QUESTION = Question.of(Subject("", "chat", "m"), b"Hello?")
NOW = 1000.0


def entry(*, created=NOW - 10.0, expires=NOW + 10.0, tags=None):
    return Answer("body", b"{}", created, expires, {}, tags or {}).pack(QUESTION.binding)


def terms(policy=None, *, flights=None, wait=60.0):
    return Terms(QUESTION, policy or Policy(), flights or Flights(), wait, NOW)


class Talk:
    """Answer the steps of a flow; `throw_at` raises at that step instead."""

    def __init__(self, steps, *, reads=(), waits=(), claims=(), written=True, throw_at=None):
        self.flow = steps
        self.reads, self.waits, self.claims = list(reads), list(waits), list(claims)
        self.written = written
        self.throw_at = throw_at
        self.steps = []
        self.held = []

    def run(self):
        outcome = None
        throw = False
        try:
            while True:
                step = self.flow.throw(KeyboardInterrupt) if throw else self.flow.send(outcome)
                throw = len(self.steps) == self.throw_at
                self.steps.append(step)
                outcome = self._answer(step)
        except StopIteration as end:
            return end.value

    def _answer(self, step):
        match step:
            case Read(keys):
                return [self.reads.pop(0) if self.reads else None for _ in keys]
            case Wait():
                return self.waits.pop(0) if self.waits else None
            case Claim(keys):
                granted = keys if (self.claims.pop(0) if self.claims else True) else ()
                self.held += granted
                return granted
            case Release(keys):
                for key in keys:
                    self.held.remove(key)
            case Write():
                return self.written
        return None

    def kinds(self):
        return [type(step) for step in self.steps if not isinstance(step, Tell)]


def test_a_hit_is_one_read():
    talk = Talk(flows.find_flow(terms()), reads=[entry()])
    assert isinstance(talk.run(), Found)
    assert talk.kinds() == [Read]


def test_a_miss_looks_again_once_it_leads():
    talk = Talk(flows.find_flow(terms()))
    lead = talk.run()
    assert (lead.reason, lead.leased) == ("miss", True)
    assert talk.kinds() == [Read, Claim, Read]


def test_what_another_process_stored_meanwhile_is_found():
    flights = Flights()
    talk = Talk(
        flows.find_flow(terms(flights=flights)), reads=[None, None, entry()], claims=[False, True]
    )
    found = talk.run()
    assert isinstance(found, Found)
    assert talk.kinds() == [Read, Claim, Read, Pause, Claim, Read, Release]
    assert not talk.held
    assert not flights._flights


def test_patience_with_another_process_ends():
    talk = Talk(flows.find_flow(terms(wait=1.0)), claims=[False] * 1000)
    lead = talk.run()
    assert isinstance(lead, Lead)
    assert not lead.leased
    assert 1.0 <= sum(step.seconds for step in talk.steps if isinstance(step, Pause)) <= 1.2


def test_patience_with_a_leader_ends():
    flights = Flights()
    flights.claim([QUESTION.key])
    talk = Talk(flows.find_flow(terms(flights=flights, wait=3.0)))
    lead = talk.run()
    assert (lead.flight, lead.leased) == (None, False)
    assert sum(step.seconds for step in talk.steps if isinstance(step, Wait)) == 3.0


def test_patience_is_for_all_leaders_together():
    flights = Flights()
    flights.claim([QUESTION.key])
    talk = Talk(flows.find_flow(terms(flights=flights, wait=3.0)), waits=[None, None, {}, None, {}])
    talk.run()
    assert sum(step.seconds for step in talk.steps if isinstance(step, Wait)) <= 3.5


@pytest.mark.parametrize(("held", "looks"), [([7, 7, 7, 7, 7, 7], 5), ([1, 2, 3, 0, 0, 4, 5], 240)])
def test_a_leader_whose_reader_holds_on_is_not_waited_for(held, looks):
    flights = Flights()
    flight = flights.claim([QUESTION.key])

    class Reading(Talk):
        def _answer(self, step):
            if isinstance(step, Wait):
                flight.held = held.pop(0) if held else 0
            return super()._answer(step)

    talk = Reading(flows.find_flow(terms(flights=flights)))
    assert talk.run().flight is None
    assert talk.kinds().count(Wait) == looks


def test_an_answer_that_may_not_be_shared_is_asked_for_at_once():
    flights = Flights()
    flights.claim([QUESTION.key])
    talk = Talk(flows.find_flow(terms(flights=flights)), waits=[{QUESTION.key: NOT_SHARED}])
    assert talk.run().flight is None
    assert talk.kinds() == [Read, Wait]


def test_after_three_leaders_that_failed_nobody_is_waited_for():
    flights = Flights()
    led = [flights.claim([QUESTION.key])]

    class Failing(Talk):
        def _answer(self, step):
            if isinstance(step, Wait):
                flights.land(led[-1], {})
                led.append(flights.claim([QUESTION.key]))
                return {}
            return super()._answer(step)

    talk = Failing(flows.find_flow(terms(flights=flights)))
    assert talk.run().flight is None
    assert talk.kinds() == [Read, Wait, Wait, Wait]


def test_what_a_leader_found_may_be_too_old_for_a_follower():
    flights = Flights()
    other = flights.claim([QUESTION.key])
    found = {QUESTION.key: entry(created=NOW - 50.0)}

    class Landing(Talk):
        def _answer(self, step):
            if isinstance(step, Wait):
                flights.land(other, found)
                return found
            return super()._answer(step)

    young = Landing(flows.find_flow(terms(Policy(max_age=40), flights=flights)))
    assert isinstance(young.run(), Lead)
    flights = Flights()
    other = flights.claim([QUESTION.key])
    old = Landing(flows.find_flow(terms(Policy(max_age=60), flights=flights)))
    assert old.run().collapsed


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(no_cache=True), "request"),
        (Policy(no_store=True), "miss"),
        (Policy(only_if_cached=True), "miss"),
    ],
)
def test_who_wants_to_be_alone_leads_without_a_flight(policy, reason):
    flights = Flights()
    flights.claim([QUESTION.key])
    talk = Talk(flows.find_flow(terms(policy, flights=flights)))
    lead = talk.run()
    assert (lead.flight, lead.reason) == (None, reason)
    assert talk.kinds() == [Read]


STALE = entry(expires=NOW - 1.0)


def finding(flights):
    return flows.find_flow(terms(flights=flights)), {"claims": [False, True], "reads": [None, None, entry()]}


def leading(flights):
    return flows.find_flow(terms(flights=flights)), {}


def refreshing(flights):
    return flows.refresh_flow(terms(flights=flights)), {"reads": [STALE]}


def refreshed(flights):
    return flows.refresh_flow(terms(flights=flights)), {"reads": [entry()]}


def elsewhere(flights):
    return flows.refresh_flow(terms(flights=flights)), {"claims": [False]}


def saving(flights):
    lead = Lead(QUESTION, "miss", flights.claim([QUESTION.key]), leased=True)
    return flows.save_flow(lead, Answer.unpack(entry(), QUESTION.binding), entry(), flights), {}


def letting_go(flights):
    lead = Lead(QUESTION, "miss", flights.claim([QUESTION.key]), leased=True)
    return flows.let_go_flow(lead, "no_store", "no", flights, ended=False), {}


@pytest.mark.parametrize("throw_at", [None, *range(8)])
@pytest.mark.parametrize(
    "begin", [finding, leading, refreshing, refreshed, elsewhere, saving, letting_go]
)
def test_nothing_is_left_whatever_fails_at_whichever_step(begin, throw_at):
    flights = Flights()
    steps, answers = begin(flights)
    talk = Talk(steps, **answers, throw_at=throw_at)
    if begin in (saving, letting_go):
        talk.held = [QUESTION.key]
    lead = None
    try:
        lead = talk.run()
    except KeyboardInterrupt:
        thrown = talk.steps[throw_at]
        if isinstance(thrown, Claim):
            # Whoever carries out a claim that fails gives back what it was granted.
            talk.held.clear()
        elif isinstance(thrown, Release):
            talk.held.clear()
    if isinstance(lead, Lead):
        assert lead.leased == bool(talk.held)
        assert (lead.flight is not None) == bool(flights._flights)
        talk.held.clear()
        flights._flights.clear()
    assert not talk.held
    assert not flights._flights


def test_tags_are_read_together():
    epochs = {"a": "1", "b": "2"}
    talk = Talk(flows.find_flow(terms()), reads=[entry(tags=epochs), b"", b""])
    assert isinstance(talk.run(), Lead)
    assert [len(step.keys) for step in talk.steps if isinstance(step, Read)] == [1, 2, 1]
