import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core import keys
from askonce.errors import InputError
from askonce.wire import canonical_body, parse_body, write_body
from askonce.wire.json_body import MAX_DEPTH, MAX_LENGTH

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES))
def test_a_body_is_read_as_it_was_written(body):
    assert parse_body(write_body(body)) == body
    assert parse_body(json.dumps(body).encode()) == body


@given(VALUES, VALUES)
def test_only_equal_values_have_equal_canonical_bytes(one, two):
    one, two = (parse_body(write_body({"a": value})) for value in (one, two))
    same = keys.encode(one) == keys.encode(two)
    assert (canonical_body(one) == canonical_body(two)) == same
    assert parse_body(canonical_body(one)) == one


def test_canonical_bytes_do_not_depend_on_the_order_of_names():
    assert canonical_body({"b": {"d": 1, "c": 2}, "a": 1.0}) == b'{"a":1.0,"b":{"c":2,"d":1}}'


def test_written_bodies_are_one_ascii_line():
    assert write_body({"a": "é\u2028\n\ud800"}) == b'{"a":"\\u00e9\\u2028\\n\\ud800"}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": "\x01"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'"text"', "string"),
        (b"[1]", "array"),
        (b"null", "null"),
        (b"12", "number"),
        (b"true", "boolean"),
        (b'{"a": 1, "a": 1}', "'a' is given twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "'b' is given twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": [Infinity]}', "Infinity"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": -1.5E+400}', "too large"),
        (b'{"a": ' + b"9" * 400 + b".0}", "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "nested deeper"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested deeper"),
        (b'{"a": "' + b"x" * MAX_LENGTH + b'"}', "longer than"),
    ],
    ids=range(27),
)
def test_what_is_ambiguous_is_refused_with_the_reason(body, reason):
    with pytest.raises(InputError, match=reason):
        parse_body(body)


def test_what_only_looks_dangerous_is_read():
    depth = MAX_DEPTH - 1
    assert parse_body(b'{"a": ' + b"[" * depth + b"]" * depth + b"}")
    assert parse_body(b'{"a": [' + b"[0.5],{}," * 1000 + b"1]}")["a"][-1] == 1
    assert parse_body(b'{"a": "1e999 NaN", "b": 1e-999, "c": 12345678901234567890}') == {
        "a": "1e999 NaN",
        "b": 0.0,
        "c": 12345678901234567890,
    }


def test_a_large_body_is_read():
    image = "data:image/png;base64," + "iVBORw0KGgo" * 2**20
    assert parse_body(write_body({"image": image})) == {"image": image}
