"""Answers as JSON for people: every way of writing one gives back its bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError
from askonce.core import codecs
from askonce.testing.cassette_answers import answer_of, payload_of

TRANSCRIPTS = sorted(
    file
    for file in (Path(__file__).parent.parent / "wire" / "transcripts").rglob("*.*")
    if not file.name.endswith(".request.json")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)
STYLES = [{}, {"indent": 2}, {"separators": (",", ":")}, {"indent": 4}, {"ensure_ascii": True}]


def check(codec, payload):
    answer = json.loads(json.dumps(answer_of(codec, payload)))
    assert payload_of(answer) == (codec, payload)
    return answer


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_real_servers_send(file):
    answer = check(codecs.EVENTS if file.suffix == ".sse" else codecs.JSON, file.read_bytes())
    if not file.name.startswith(("written_", "failed_")):
        assert "json" in answer or any(isinstance(event, dict) for event in answer["events"])


@given(value=JSON, style=st.sampled_from(STYLES), ending=st.sampled_from(["", "\n", " \r\n"]))
def test_any_json_in_any_style(value, style, ending):
    text = json.dumps(value, ensure_ascii=False) if not style else json.dumps(value, **style)
    check(codecs.JSON, (text + ending).encode("utf-8", "surrogatepass"))


@given(
    events=st.lists(JSON | st.binary(max_size=9), max_size=4),
    start=st.sampled_from([b"data: ", b"data:", b"event: x\ndata: ", b": c\n\ndata: ", b"id: 1\ndata: "]),
    end=st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n", b""]),
)
def test_any_stream(events, start, end):
    written = [
        event if isinstance(event, bytes) else json.dumps(event).encode() for event in events
    ]
    check(codecs.EVENTS, b"".join(start + event + end for event in written))


@given(payload=st.binary(max_size=64), codec=st.integers(0, 40))
def test_any_bytes(payload, codec):
    check(codec, payload)


@pytest.mark.parametrize("codec", [codecs.FLOAT16, codecs.FLOAT32, codecs.FLOAT64, codecs.INT8])
def test_vectors(codec):
    rows = np.random.default_rng(1).normal(size=(3, 7)) * [[1e-4], [1.0], [1e4]]
    for row in codecs.encode(rows.astype(np.float32), codec):
        answer = check(codec, row.tobytes())
        assert (codec == codecs.INT8) == ("base64" in answer)


def test_a_vector_is_written_with_no_more_digits_than_it_has():
    payload = np.array([0.1, 1, -2.5], np.float32).tobytes()
    assert answer_of(codecs.FLOAT32, payload) == {"float32": [0.1, 1.0, -2.5]}


def test_a_stream_is_written_as_the_json_in_its_events():
    stream = b'data: {"a":1}\n\n: still there\n\ndata: [DONE]\n\n'
    expected = {"events": [{"a": 1}, ": still there\n\n", "data: [DONE]\n\n"]}
    assert answer_of(codecs.EVENTS, stream) == expected
    named = b'event: x\ndata: {"type": "x"}\n\n'
    assert answer_of(codecs.EVENTS, named) == {
        "events": [{"type": "x"}],
        "style": "spaced",
        "named": True,
    }


def test_numbers_that_python_writes_otherwise_stay_text():
    assert answer_of(codecs.JSON, b'{"a": 1.50}') == {"text": '{"a": 1.50}'}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"json": 1, "style": "baroque"},
        {"base64": "!", "codec": 1},
        {"base64": "", "codec": "x"},
        {"events": 1},
        {"text": None},
        {"float32": ["x"]},
    ],
)
def test_what_is_no_answer(answer):
    with pytest.raises((InputError, ValueError, TypeError, AttributeError)):
        payload_of(answer)
