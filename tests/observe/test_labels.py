"""The values of a label: few, whatever is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.observe.labels import OTHER, Names


@given(most=st.integers(1, 20), sent=st.lists(st.tuples(st.text(), st.booleans()), max_size=200))
def test_there_are_never_more_than_allowed(most, sent):
    names = Names(most)
    given_ = {names.bounded(name, proven=proven) for name, proven in sent} - {"", OTHER}
    assert len(given_) <= most
    assert all(name.encode() and name.isprintable() for name in given_)


@given(sent=st.lists(st.text(), max_size=100))
def test_a_name_that_was_given_once_stays(sent):
    names = Names(10)
    first = {name: names.bounded(name) for name in sent}
    assert {name: names.bounded(name, proven=False) for name in sent if first[name] == name} == {
        name: name for name in sent if first[name] == name
    }


def test_names_made_up_leave_half_of_the_room():
    names = Names(10)
    made_up = {names.bounded(f"made-up-{n}", proven=False) for n in range(1000)}
    assert len(made_up - {OTHER}) == 5
    proven = [f"m{n}" for n in range(5)]
    assert [names.bounded(name) for name in proven] == proven
    assert names.bounded("m5") == OTHER


def test_the_empty_name_takes_no_room():
    names = Names(1)
    assert [names.bounded(""), names.bounded("a"), names.bounded("")] == ["", "a", ""]


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "x" * 101, "\0", "\x1b[31m"])
def test_what_is_not_fit_to_be_shown_is_other(name):
    assert Names(10).bounded(name) == OTHER
