"""The embedding flow, step by step, without a store, a loop or a thread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import AnswerError, InputTypeError
from askonce.core import embedding
from askonce.core import flow as steps
from askonce.core.embedding import Terms, embed_flow
from askonce.core.inputs import Inputs
from askonce.core.flight import Flights
from askonce.core.keys import Subject
from tests.core.talk import Talk

SUBJECT = Subject("ns", "embedding", "m")
NOW = 1000.0


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(sum(map(ord, text))), 0.5]


def vectors_of(texts):
    return [vector_of(text) for text in texts]


def terms(flights=None, **others) -> Terms:
    known = {"flights": flights or Flights(), "batch_size": 100, "dimensions": None, "now": NOW}
    return Terms(**(known | others))


def talk(texts, its_terms=None, name_keys=None) -> Talk:
    return Talk(embed_flow(Inputs.begin(texts, SUBJECT, name_keys), its_terms or terms()))


def keys_of(texts):
    return Inputs.of(texts, SUBJECT).keys


def stored_with(texts, **others) -> dict[str, bytes]:
    stored: dict[str, bytes] = {}
    if texts:
        one = talk(texts, terms(**others))
        one.until(steps.Call, stored)
        one.answer(vectors_of(one.said.argument))
        one.to_the_end(stored)
    return stored


def test_a_hit_is_one_read():
    stored, told = stored_with(["a", "b"]), []
    one = talk(["a", "b"])
    assert list(one.expect(steps.Read).keys) == keys_of(["a", "b"])
    assert one.to_the_end(stored, told).tolist() == vectors_of(["a", "b"])
    assert told == [("hit", 2)]


def test_a_miss_looks_asks_stores_and_keeps_the_callers_order():
    one = talk(["b", "a", "b", "c"])
    said = []
    stored, found = stored_with(["a"]), None
    while not one.ended:
        said.append(type(one.said).__name__)
        match one.said:
            case steps.Read(keys):
                one.answer(list(map(stored.get, keys)))
            case steps.Claim(keys):
                assert list(keys) == keys_of(["b", "c"])
                one.answer(list(keys))
            case steps.Call(texts):
                assert texts == ["b", "c"]
                one.answer(vectors_of(texts))
            case steps.Write(entries):
                assert list(entries) == keys_of(["b", "c"])
                found = entries
                one.answer(True)
            case _:
                one.answer()
    assert said == "Read Tell Tell Claim Read Call Write Tell Release".split()
    assert one.result.tolist() == vectors_of(["b", "a", "b", "c"])
    assert found
    assert talk(["c", "b"]).to_the_end(found).tolist() == vectors_of(["c", "b"])


def test_what_appeared_meanwhile_is_not_asked_for():
    one, told = talk(["a", "b"]), []
    one.until(steps.Claim, {}, told)
    one.answer(list(one.said.keys))
    assert one.to_the_end(stored_with(["a", "b"]), told).tolist() == vectors_of(["a", "b"])
    assert told == [("miss", 2)]


def test_nothing_asked_says_nothing():
    one = talk([])
    assert one.ended
    assert one.result.shape == (0, 0)
    assert talk([], terms(dimensions=4)).result.shape == (0, 4)


def test_each_batch_is_stored_before_the_next_is_asked_for():
    one, stored, asked = talk(list("abcde"), terms(batch_size=2)), {}, []
    while one.until(steps.Call, stored):
        assert len(stored) == len(asked)
        asked += one.said.argument
        assert len(one.said.argument) <= 2
        one.answer(vectors_of(one.said.argument))
    assert asked == list("abcde")
    assert one.result.tolist() == vectors_of("abcde")


def test_a_failing_model_keeps_the_finished_batches_and_lands_the_rest():
    flights, stored = Flights(), {}
    one = talk(list("abcde"), terms(flights, batch_size=2))
    one.until(steps.Call, stored)
    one.answer(vectors_of("ab"))
    one.until(steps.Call, stored)
    error = RuntimeError("the model is down")
    with pytest.raises(RuntimeError) as caught:
        one.fail(error)
    assert caught.value is error
    assert list(stored) == keys_of(list("ab"))
    assert flights.under_way(keys_of(list("abcde"))) == []


@pytest.mark.parametrize("where", [steps.Claim, steps.Read, steps.Call, steps.Write, steps.Release])
def test_a_flow_given_up_anywhere_leaves_no_flight_behind(where):
    flights = Flights()
    one = talk(["a"], terms(flights))
    one.until(steps.Claim, {})
    waiting = flights.under_way(keys_of(["a"]))
    assert len(waiting) == 1
    if where is not steps.Claim:
        one.answer(keys_of(["a"]))
        if where is not steps.Read:
            one.until(steps.Call, {})
            if where is not steps.Call:
                one.answer(vectors_of(["a"]))
                one.until(where, {})
    one.expect(where)
    one.flow.close()
    assert flights.under_way(keys_of(["a"])) == []
    assert waiting[0].landed.done()


def test_a_follower_gets_what_the_leader_brings_each_text_its_own():
    flights = Flights()
    leader, follower = talk(list("abc"), terms(flights)), talk(list("cab"), terms(flights))
    leader.until(steps.Call, {})
    wait = follower.until(steps.Wait, {})
    leader.answer(vectors_of(leader.said.argument))
    leader.to_the_end({})
    follower.answer(wait.flight.landed.result(0))
    # Nothing was stored for it to read: the values came with the flight.
    assert follower.to_the_end({}).tolist() == vectors_of("cab")


def test_a_follower_gets_it_though_the_store_refused_it():
    flights, told = Flights(), []
    leader, follower = talk(["a"], terms(flights)), talk(["a"], terms(flights))
    leader.until(steps.Call, {})
    wait = follower.until(steps.Wait, {})
    leader.answer(vectors_of(["a"]))
    leader.expect(steps.Write)
    leader.answer(False)
    assert leader.to_the_end({}, told).tolist() == vectors_of(["a"])
    assert told == []
    follower.answer(wait.flight.landed.result(0))
    assert follower.to_the_end({}).tolist() == vectors_of(["a"])


def test_a_follower_asks_for_what_the_leader_failed_to_bring():
    flights = Flights()
    leader, follower = talk(["a"], terms(flights)), talk(["a", "b"], terms(flights))
    leader.until(steps.Call, {})
    follower.until(steps.Call, {})
    assert follower.said.argument == ["b"]
    follower.answer(vectors_of(["b"]))
    wait = follower.until(steps.Wait, {})
    with pytest.raises(RuntimeError):
        leader.fail(RuntimeError("down"))
    follower.answer(wait.flight.landed.result(0))
    follower.until(steps.Call, {})
    assert follower.said.argument == ["a"]
    follower.answer(vectors_of(["a"]))
    assert follower.to_the_end({}).tolist() == vectors_of(["a", "b"])


def test_a_follower_that_waited_long_enough_asks_itself():
    flights = Flights()
    leader, follower = talk(["a"], terms(flights)), talk(["a"], terms(flights, wait=7.0))
    leader.until(steps.Call, {})
    assert follower.until(steps.Wait, {}).seconds == 7.0
    follower.answer(None)
    follower.until(steps.Call, {})
    assert follower.said.argument == ["a"]
    follower.answer(vectors_of(["a"]))
    assert follower.to_the_end({}).tolist() == vectors_of(["a"])
    leader.answer(vectors_of(["a"]))
    assert leader.to_the_end({}).tolist() == vectors_of(["a"])
    assert flights.under_way(keys_of(["a"])) == []


def test_what_another_process_asks_for_is_waited_for_and_read():
    one, stored = talk(["a", "b"]), {}
    one.until(steps.Claim, stored)
    one.answer(keys_of(["b"]))
    one.until(steps.Call, stored)
    assert one.said.argument == ["b"]
    one.answer(vectors_of(["b"]))
    one.until(steps.Pause, stored)
    stored |= stored_with(["a"])
    one.answer()
    assert one.to_the_end(stored).tolist() == vectors_of(["a", "b"])


@pytest.mark.parametrize(
    "answer",
    [[], [[1.0]], [[1.0]] * 3, [[1.0], [1.0, 2.0]], [[1.0], [float("nan")]], None, [["x"], ["y"]]],
)
def test_an_unusable_answer_is_refused_and_nothing_of_it_stored(answer):
    flights, stored = Flights(), {}
    one = talk(["a", "b"], terms(flights))
    one.until(steps.Call, stored)
    with pytest.raises(AnswerError):
        one.answer(answer)
    assert stored == {}
    assert flights.under_way(keys_of(["a", "b"])) == []


def test_an_answer_of_other_dimensions_is_refused():
    learned = {}
    stored_with(["a"], learned=learned)
    for its_terms, says in ((terms(learned=learned), "before"), (terms(dimensions=4), "asked for")):
        one = talk(["new"], its_terms)
        one.until(steps.Call, {})
        with pytest.raises(AnswerError, match=f"2 dimensions.* {says}"):
            one.answer([[1.0, 2.0]])


def test_an_entry_that_is_damaged_or_expired_is_asked_for_and_healed():
    fresh, old = stored_with(["a", "b"]), stored_with(["c"], now=NOW - 20, ttl=10.0)
    damaged = fresh[keys_of(["a"])[0]][:-1] + b"\x01"
    stored = fresh | old | {keys_of(["a"])[0]: damaged}
    one = talk(["a", "b", "c"])
    one.until(steps.Call, stored)
    assert one.said.argument == ["a", "c"]
    one.answer(vectors_of(["a", "c"]))
    assert one.to_the_end(stored).tolist() == vectors_of(["a", "b", "c"])
    assert talk(["a", "b", "c"]).to_the_end(stored).tolist() == vectors_of(["a", "b", "c"])


def test_an_entry_under_anothers_key_is_not_its_answer():
    stored = stored_with(["a"])
    (key,) = keys_of(["b"])
    stored[key] = stored[keys_of(["a"])[0]]
    one = talk(["b"])
    one.until(steps.Call, stored)
    assert one.said.argument == ["b"]


def test_it_expires_when_it_should():
    one = talk(["a"], terms(ttl=60.0))
    one.until(steps.Call, {})
    one.answer(vectors_of(["a"]))
    assert one.expect(steps.Write).expires == NOW + 60


texts = st.text(st.sampled_from("ab\ud800é"), max_size=3)


@given(st.lists(texts, max_size=8), st.sets(texts), st.integers(1, 4))
def test_every_text_gets_its_own_vector_and_is_asked_for_once(wanted, before, batch_size):
    stored = stored_with(sorted(before))
    one, asked = talk(wanted, terms(batch_size=batch_size)), []
    while one.until(steps.Call, stored):
        asked += one.said.argument
        one.answer(vectors_of(one.said.argument))
    assert one.result.tolist() == vectors_of(wanted)
    assert sorted(asked) == sorted(set(wanted) - before)


@pytest.fixture(scope="module")
def windows_of_two():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "_MOST_AHEAD", 2)
        yield


def by_length(texts):
    return [f"n/{len(text)}" for text in texts]


@pytest.mark.usefixtures("windows_of_two")
@pytest.mark.parametrize("name_keys", [None, by_length])
@given(
    wanted=st.lists(texts, max_size=12),
    before=st.lists(texts, unique=True),
    odd=st.sets(st.integers(0, 6)),
)
def test_reading_ahead_changes_nothing_but_the_time(name_keys, wanted, before, odd):
    stored: dict[str, bytes] = {}
    one = talk(before, name_keys=name_keys)
    while one.until(steps.Call, stored):
        one.answer(vectors_of(one.said.argument))
    for place, key in enumerate(list(stored)):
        if place in odd:
            stored[key] = b"damaged" if place % 2 else stored[key][:-1] + b"!"
    outcomes = []
    for beside in (None, "copies", "reads"):
        there, told, asked = dict(stored), [], []
        one = talk(wanted, terms(beside=beside), name_keys)
        while one.until(steps.Call, there, told):
            asked += one.said.argument
            one.answer(vectors_of(one.said.argument))
        assert one.result.tolist() == vectors_of(wanted)
        outcomes.append((there, told, asked))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.usefixtures("windows_of_two")
def test_while_one_window_is_read_the_next_is_digested_and_another_read():
    stored = stored_with(list("abcdefg"))
    one = talk(list("abcdefg"), terms(beside="reads"))
    said = []
    while not one.ended:
        match one.said:
            case steps.Begin(keys):
                said.append(f"begin {len(keys)}")
                one.answer(list(map(stored.get, keys)))
            case steps.Finish(blobs):
                said.append(f"finish {len(blobs)}")
                one.answer(b"".join(blobs))
            case steps.Tell():
                one.answer()
    assert one.result.tolist() == vectors_of("abcdefg")
    assert said == [
        *("begin 2", "begin 2", "finish 2", "begin 2", "finish 2", "begin 1"),
        *("finish 2", "finish 1"),
    ]


@pytest.mark.usefixtures("windows_of_two")
def test_what_is_no_string_is_told_though_others_are_being_read():
    one = talk(["a", "b", "c", "d", None], terms(beside="reads"))
    with pytest.raises(InputTypeError, match=r"texts\[4\]"):
        one.to_the_end({})


floats = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(floats, min_size=3, max_size=3), min_size=1, max_size=5), st.data())
def test_a_hit_equals_the_miss_that_made_it_to_the_last_bit(vectors, data):
    names = [str(number) for number in range(len(vectors))]
    stored: dict[str, bytes] = {}
    one = talk(names)
    one.until(steps.Call, stored)
    one.answer(vectors)
    miss = one.to_the_end(stored)
    hit = talk(names).to_the_end(stored)
    assert miss.dtype == hit.dtype
    assert miss.tobytes() == hit.tobytes()
    assert hit.astype(np.float64).tobytes() == np.array(vectors, np.float64).tobytes()
    order = data.draw(st.permutations(range(len(vectors))))
    shuffled = talk([names[place] for place in order]).to_the_end(stored)
    assert shuffled.tobytes() == hit[order].tobytes()


def test_batches_look_only_at_as_many_texts_as_they_take():
    class Counting(Flights):
        offered = 0

        def claim(self, keys, *, limit=None):
            def counted():
                for key in keys:
                    self.offered += 1
                    yield key

            return super().claim(counted(), limit=limit)

    flights = Counting()
    texts = [str(number) for number in range(3000)]
    one = talk(texts, terms(flights, batch_size=10))
    stored: dict[str, bytes] = {}
    while not one.ended:
        one.until(steps.Call, stored)
        if not one.ended:
            one.answer(vectors_of(one.said.argument))
    assert one.result.tolist() == vectors_of(texts)
    assert flights.offered == len(texts)
