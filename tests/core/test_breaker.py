"""The breaker, with a clock of the test's own."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from askonce.core.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker


def opened(**options):
    breaker = Breaker(chance=lambda: 0.0, **options)
    assert breaker.failed(100.0, probing=False)
    return breaker


def test_lets_everything_pass_until_something_fails():
    breaker = Breaker()
    assert breaker.is_closed
    assert [breaker.admit(now) for now in (0.0, 0.0, 5.0)] == ["pass"] * 3
    assert not breaker.worked(probing=False)


def test_one_failure_opens_it():
    breaker = opened()
    assert not breaker.is_closed
    assert breaker.admit(100.0 + FIRST_PAUSE * 0.9) == "refuse"


def test_one_probe_goes_and_the_others_do_not():
    breaker = opened()
    assert [breaker.admit(100.2) for _ in range(3)] == ["probe", "refuse", "refuse"]


def test_a_probe_that_works_closes_it():
    breaker = opened()
    assert breaker.admit(101.0) == "probe"
    assert breaker.worked(probing=True)
    assert breaker.is_closed
    assert breaker.admit(101.0) == "pass"


def test_a_single_slow_answer_costs_the_first_pause_only():
    breaker = opened()
    assert breaker.admit(100.0 + FIRST_PAUSE) == "probe"
    breaker.worked(probing=True)
    breaker.failed(200.0, probing=False)
    assert breaker.admit(200.0 + FIRST_PAUSE) == "probe"


def test_pauses_double_and_stay_bounded():
    breaker = opened()
    now, pauses = 100.0, []
    for _ in range(12):
        pauses.append(round(breaker.seconds_left(now), 6))
        now += pauses[-1]
        assert breaker.admit(now) == "probe"
        assert not breaker.failed(now, probing=True)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == LONGEST_PAUSE


def test_what_was_under_way_when_it_opened_tells_nothing_new():
    breaker = opened()
    assert not breaker.failed(100.05, probing=False)
    assert not breaker.worked(probing=False)
    assert breaker.admit(100.0 + FIRST_PAUSE) == "probe"


def test_a_probe_without_an_outcome_makes_room_for_the_next():
    breaker = opened()
    assert breaker.admit(101.0) == "probe"
    breaker.gave_up(101.0)
    assert breaker.admit(101.0) == "probe"


def test_a_probe_that_is_never_heard_of_is_given_up():
    breaker = opened()
    assert breaker.admit(101.0) == "probe"
    assert breaker.admit(110.9) == "refuse"
    assert breaker.admit(111.0) == "probe"


@given(chance=st.floats(0, 1))
def test_chance_shortens_a_pause_by_half_at_most(chance):
    breaker = Breaker(chance=lambda: chance)
    breaker.failed(0.0, probing=False)
    assert FIRST_PAUSE / 2 <= breaker.seconds_left(0.0) <= FIRST_PAUSE


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens: closed or at most one young probe, and never shut for ever."""

    def __init__(self):
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.probes = []

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def ask(self):
        closed = self.breaker.is_closed
        admission = self.breaker.admit(self.now)
        assert (admission == "pass") == closed
        if admission == "probe":
            assert not [since for since in self.probes if self.now - since < 10]
            self.probes.append(self.now)

    @rule(data=st.data(), end=st.sampled_from(["worked", "failed", "gave up"]))
    def end_a_probe(self, data, end):
        if self.probes:
            self.probes.remove(data.draw(st.sampled_from(self.probes)))
            if end == "worked":
                self.breaker.worked(probing=True)
                assert self.breaker.is_closed
                self.probes.clear()
            elif end == "failed":
                self.breaker.failed(self.now, probing=True)
                self.probes.clear()
            else:
                self.breaker.gave_up(self.now)
                self.probes.clear()

    @rule()
    def fail(self):
        self.breaker.failed(self.now, probing=False)
        assert not self.breaker.is_closed

    @invariant()
    def asks_again_soon(self):
        assert self.breaker.seconds_left(self.now) <= 10 + 1e-9


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None
)
