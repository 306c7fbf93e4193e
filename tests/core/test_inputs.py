"""Inputs that are taken in piece by piece are those that were taken in at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputTypeError
from askonce.core.inputs import Inputs
from askonce.core.keys import Subject

SUBJECT = Subject("ns", "embedding", "m")
texts = st.lists(st.text(alphabet="abé\ud800", max_size=2), max_size=12)


def by_length(items):
    return [f"n/{len(item)}" for item in items]


@pytest.mark.parametrize("name_keys", [None, by_length])
@given(texts=texts, steps=st.lists(st.integers(0, 5)))
def test_pieces_come_to_the_whole(name_keys, texts, steps):
    whole = Inputs.of(texts, SUBJECT, name_keys)
    pieces = Inputs.begin(texts, SUBJECT, name_keys)
    assert pieces.given == pieces.left == len(texts)
    places = [pieces.take_in(step) for step in steps]
    places.append(pieces.take_in(pieces.left))
    assert pieces.left == 0
    assert np.concatenate(places).tolist() == list(range(len(whole.keys)))
    assert pieces.items == whole.items == list(dict.fromkeys(texts))
    assert pieces.keys == whole.keys
    assert pieces.spare_keys == whole.spare_keys
    assert pieces.bindings.tolist() == whole.bindings.tolist()
    assert pieces.positions.tolist() == whole.positions.tolist()
    assert [whole.items[place] for place in whole.positions.tolist()] == texts


@given(texts)
def test_no_two_items_share_a_key(texts):
    for name_keys in (None, by_length):
        inputs = Inputs.of(texts, SUBJECT, name_keys)
        assert len(set(inputs.keys)) == len(inputs.items)


def test_positions_are_told_as_far_as_texts_were_taken_in():
    inputs = Inputs.begin(["a", "b", "a", "c", "b"], SUBJECT)
    assert inputs.take_in(3).tolist() == [0, 1]
    assert inputs.positions.tolist() == [0, 1, 0]
    assert inputs.take_in(1).tolist() == [2]
    assert inputs.take_in(1).tolist() == []
    assert inputs.positions.tolist() == [0, 1, 0, 2, 1]


def test_equal_texts_fall_together_and_keep_their_places():
    inputs = Inputs.of(["b", "a", "b", "b", "c", "a"], SUBJECT)
    assert inputs.items == ["b", "a", "c"]
    assert inputs.positions.tolist() == [0, 1, 0, 0, 2, 1]
    assert len(set(inputs.keys)) == 3


def test_texts_whose_names_meet_give_way_to_spare_keys():
    inputs = Inputs.of(["ab", "cd", "e"], SUBJECT, by_length)
    assert inputs.keys == ["n/2", Inputs.of(["cd"], SUBJECT).keys[0], "n/1"]


@pytest.mark.parametrize("texts", ["text", b"text", None, 7])
def test_what_is_no_list_is_refused_before_anything_is_read(texts):
    with pytest.raises(InputTypeError):
        Inputs.begin(texts, SUBJECT)


@pytest.mark.parametrize(
    "texts", ["text", b"text", None, 7, [b"a"], ["a", None], ["a", 7], [["a"]], {"a": 1}.items()]
)
def test_only_lists_of_strings_are_taken(texts):
    with pytest.raises(InputTypeError):
        Inputs.of(texts, SUBJECT)


def test_what_is_no_string_is_told_by_its_place_in_the_whole_list():
    inputs = Inputs.begin(["a", "b", "c", None], SUBJECT)
    inputs.take_in(2)
    with pytest.raises(InputTypeError, match=r"texts\[3\] is a NoneType"):
        inputs.take_in(2)


def test_items_are_told_apart_by_their_contents():
    inputs = Inputs.of_contents([b"x", b"y", b"x"], [0, 1, 2], SUBJECT)
    assert inputs.items == [0, 1]
    assert inputs.positions.tolist() == [0, 1, 0]


def test_contents_may_be_taken_in_piece_by_piece_too():
    inputs = Inputs(["p", "q", "r"], SUBJECT, lambda some: SUBJECT.digests([b"x", b"y", b"x"][some]))
    assert inputs.take_in(2).tolist() == [0, 1]
    assert inputs.take_in(7).tolist() == []
    assert inputs.take_in(7).tolist() == []
    assert inputs.positions.tolist() == [0, 1, 0]
