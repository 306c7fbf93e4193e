import math
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputTypeError
from askonce.core import keys
from askonce.core.keys import Subject, encode, namespace_prefix, segment, utf8

any_text = st.text(st.characters())  # lone surrogates too
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), any_text, st.binary(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(any_text, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: object, other: object) -> bool:
    """Tell whether two values are the same to the last bit and type; a tuple is a list."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return one == other


@given(values, values)
def test_different_values_have_different_encodings(one, other):
    assert (encode(one) == encode(other)) == same(one, other)


@given(st.lists(values, max_size=3), st.lists(values, max_size=3))
def test_encodings_side_by_side_do_not_run_together(one, other):
    joined = [b"".join(map(encode, each)) for each in (one, other)]
    assert (joined[0] == joined[1]) == same(one, other)


@given(st.dictionaries(any_text, values, min_size=2, max_size=5), st.randoms())
def test_the_order_of_a_mapping_does_not_matter(mapping, chance):
    items = list(mapping.items())
    chance.shuffle(items)
    assert encode(dict(items)) == encode(mapping)


def test_numbers_and_their_lookalikes_all_differ():
    lookalikes = [
        1,
        True,
        1.0,
        "1",
        b"1",
        [1],
        {"1": 1},
        None,
        0,
        False,
        0.0,
        -0.0,
        "",
        [],
        {},
        b"",
    ]
    lookalikes += [
        "n",
        "t",
        10**30,
        float(10**30),
        math.nan,
        math.inf,
        -math.inf,
        [[]],
        [None],
        ["1"],
    ]
    encodings = list(map(encode, lookalikes))
    assert len(set(encodings)) == len(lookalikes)


def test_boundaries_are_part_of_the_encoding():
    pairs = [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": "b", "c": "d"}, {"a": "bcd"}),
        (["s1:a"], ["a"]),
        ([1, 11], [11, 1]),
        ("é", "e\u0301"),
    ]
    for one, other in pairs:
        assert encode(one) != encode(other)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, 1j, len, {1: "a"}, {None: 1}, [object()], {"a": {"b": object()}}]
)
def test_what_has_no_stable_content_is_refused(value):
    with pytest.raises(InputTypeError):
        encode(value)


@given(any_text, any_text)
def test_no_two_texts_meet_in_utf8(one, other):
    assert (utf8(one) == utf8(other)) == (one == other)
    assert utf8(one).decode("utf-8", "surrogatepass") == one


names = st.one_of(any_text, st.text("aA-_.~:/ 0é", max_size=6), st.text("a", max_size=70))


@given(names, names)
def test_no_namespaces_prefix_is_the_start_of_anothers(one, other):
    first, second = namespace_prefix(one), namespace_prefix(other)
    assert first.startswith(second) == (one == other)


@given(names)
def test_a_segment_is_of_a_fixed_alphabet_and_short(name):
    assert re.fullmatch(r"[a-z0-9._~-]{1,65}|_", segment(name)) or "_" in segment(name)
    assert re.fullmatch(r"[a-z0-9._~-]+", segment(name))
    assert len(segment(name)) <= 65
    assert segment(name) not in {".", ".."}
    assert not segment(name).startswith(".")


def test_plain_names_stay_readable():
    assert segment("text-embedding-3-small") == "text-embedding-3-small"
    assert segment("") == "_"
    assert segment("qwen3:4b").startswith("qwen3-4b~")
    assert segment("Team A").startswith("team-a~")
    assert segment("a" * 64) == "a" * 64
    assert segment("a" * 65) != "a" * 65


@given(
    st.lists(
        st.tuples(names, names, names, st.dictionaries(any_text, scalars, max_size=2)), max_size=3
    )
)
def test_a_key_tells_subject_and_input_apart(parts):
    seen = {}
    for namespace, kind, model, parameters in parts:
        subject = Subject(namespace, kind, model, parameters)
        inputs = [b"", b"x", b"xx"]
        for content, key in zip(inputs, subject.keys(subject.digests(inputs)), strict=True):
            assert key.startswith(namespace_prefix(namespace))
            assert key.startswith(subject.prefix)
            assert key.count("/") == 3
            whole = (namespace, kind, model, encode(parameters), content)
            assert seen.setdefault(key, whole) == whole


def test_keys_stay_as_they_are():
    """Pins the way keys are made: a change here makes every stored entry a miss."""
    assert keys.VERSION == b"askonce:1"
    subject = Subject("team", "embedding", "text-embedding-3-small", {"dimensions": 256})
    (key,) = subject.keys(subject.digests([b"hello"]))
    assert key == (
        "team/embedding/text-embedding-3-small/13cc43dc01c4969bea609e71867905f7831bc74f7fac4418b8c8cfa96f600bfd"
    )
    assert encode({"b": [1, True, None, 1.5], "a": "é"}) == (
        b"m32:s1:as2:\xc3\xa9s1:bl15:i1:1tnd\x00\x00\x00\x00\x00\x00\xf8?"
    )
