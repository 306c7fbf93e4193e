import base64
import json
from types import SimpleNamespace

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

import httpx2
from askonce.core import keys
from askonce.errors import AnswerError
from askonce.wire import Usage, parse_body, write_body
from askonce.wire import openai_embeddings as embeddings
from tests.wire.transcripts import FOLDER

PATH = "/v1/embeddings"
BODY = {"model": "m", "input": ["a", "b"]}


def recorded(name):
    return parse_body((FOLDER / "openai_embeddings" / f"{name}.json").read_bytes())


def item(index, embedding):
    return {"object": "embedding", "index": index, "embedding": embedding}


def coded(*numbers):
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", [b"text:a"]),
        ("", [b"text:"]),
        (["a", "a", "é"], [b"text:a", b"text:a", b"text:\xc3\xa9"]),
        ([1, 2], [b"tokens:" + b"\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"]),
        ([[1], [2]], [b"tokens:\1\0\0\0\0\0\0\0", b"tokens:\2\0\0\0\0\0\0\0"]),
        (["1", [1]], [b"text:1", b"tokens:\1\0\0\0\0\0\0\0"]),
    ],
    ids=str,
)
def test_inputs_one_by_one(given, expected):
    assert embeddings.refusal({"input": given}) is None
    assert embeddings.inputs({"input": given}) == expected


@pytest.mark.parametrize(
    "given",
    [None, 5, {}, {"text": "a"}, [], [[]], [1, "a"], [True], [1.5], [-1], [2**63], [None], [["a"]]]
    + [[{"text": "a"}]],
    ids=str,
)
def test_inputs_that_are_not_understood(given):
    assert "`input`" in embeddings.refusal({"input": given})
    with pytest.raises(ValueError, match="input"):
        embeddings.inputs({"input": given})
    with pytest.raises(ValueError, match="input"):
        embeddings.request_for({"input": given}, [0])


@pytest.mark.parametrize(
    "field",
    [
        {"encoding_format": "ubinary"},
        {"encoding_format": []},
        {"output_dtype": "int8"},
        {"late_chunking": True},
        {"stream": True},
    ],
    ids=str,
)
def test_batches_that_cannot_be_split(field):
    assert embeddings.refusal({**BODY, **field})


@given(st.lists(st.text() | st.lists(st.integers(0, 2**40), min_size=1), min_size=2, max_size=6))
def test_only_equal_inputs_have_equal_bytes(given):
    found = embeddings.inputs({"input": given})
    for one, first in zip(given, found, strict=True):
        for two, second in zip(given, found, strict=True):
            assert (one == two) == (first == second)


def key(body, path=PATH):
    return keys.digest(embeddings.identity(path, body))


def test_what_decides_a_vector():
    assert key(BODY) == key(
        {"model": "m", "input": "other", "user": "u", "encoding_format": "float"}
    )
    different = [{"model": "n"}, {"dimensions": 3}, {"dimensions": None}, {"input_type": "query"}]
    assert len({key(BODY), *(key({**BODY, **field}) for field in different)}) == 5
    assert key(BODY, "/openai/deployments/a/embeddings") != key(
        BODY, "/openai/deployments/b/embeddings"
    )


def test_the_request_for_some_inputs():
    body = {**BODY, "input": ["a", [1], "c"], "dimensions": 3}
    assert embeddings.request_for(body, [2, 1]) == {**body, "input": ["c", [1]]}
    assert embeddings.request_for({"input": [1, 2]}, [0]) == {"input": [[1, 2]]}
    assert embeddings.request_for({"input": "a"}, [0]) == {"input": ["a"]}
    assert body["input"] == ["a", [1], "c"]


def test_recorded_vectors_are_the_same_in_both_encodings():
    numbers, packed = (
        embeddings.decode(recorded("float"), 3),
        embeddings.decode(recorded("base64"), 3),
    )
    assert numbers.dtype == np.float64
    assert packed.dtype == np.float32
    assert numbers.shape == packed.shape == (3, 576)
    assert (numbers.astype(np.float32) == packed).all()
    assert (numbers[0] == numbers[2]).all()
    assert embeddings.decode(recorded("tokens"), 2).shape == (2, 576)


def test_vectors_go_by_their_index():
    data = [item(2, [3.0]), item(0, [1.0]), item(1, [2])]
    assert embeddings.decode({"data": data}, 3).tolist() == [[1.0], [2.0], [3.0]]


def test_mixed_encodings_lose_nothing():
    rows = embeddings.decode({"data": [item(0, coded(0.1)), item(1, [0.1])]}, 2)
    assert rows.tolist() == [[float(np.float32(0.1))], [0.1]]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        [item(0, [1.0])],
        [item(0, [1.0]), item(0, [1.0])],
        [item(0, [1.0]), item(2, [1.0])],
        [item(0, [1.0]), item(-1, [1.0])],
        [item(0, [1.0]), item(True, [1.0])],
        [item(0, [1.0]), item("1", [1.0])],
        [item(0, [1.0]), {"embedding": [1.0]}],
        [item(0, [1.0]), 5],
        [item(0, [1.0]), item(1, [1.0]), item(2, [1.0])],
        [item(0, [1.0]), item(1, [1.0, 2.0])],
        [item(0, [1.0]), item(1, [])],
        [item(0, [1.0]), item(1, None)],
        [item(0, [1.0]), item(1, ["1.0"])],
        [item(0, [1.0]), item(1, [None])],
        [item(0, [1.0]), item(1, [[1.0]])],
        [item(0, [1.0]), item(1, [1.0, [2.0]])],
        [item(0, [1.0]), item(1, [10**400])],
        [item(0, [1.0]), item(1, "AAA")],
        [item(0, [1.0]), item(1, "AAAA")],
        [item(0, [1.0]), item(1, "")],
        [item(0, [1.0]), item(1, "AACA*/w==")],
        [item(0, [1.0]), item(1, "é")],
        [item(0, [1.0]), item(1, coded(np.nan))],
        [item(0, [1.0]), item(1, [float("inf")])],
    ],
    ids=range(27),
)
def test_answers_that_cannot_be_used(data):
    with pytest.raises(AnswerError):
        embeddings.decode({"data": data}, 2)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(FLOATS, min_size=n, max_size=n), min_size=1)
)


@given(ROWS)
def test_numbers_round_trip_exactly(rows):
    written = np.array(rows)
    body = write_body(embeddings.respond(written, "float", model="m", counts=None))
    read = embeddings.decode(parse_body(body), len(rows))
    assert read.tobytes() == written.tobytes()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_float32_round_trips_in_both_encodings(numbers):
    written = np.array([numbers], np.float32)
    for encoding in ("float", "base64"):
        answer = embeddings.respond(written, encoding, model="m", counts=None)
        read = embeddings.decode(parse_body(write_body(answer)), 1)
        assert read.astype(np.float32).tobytes() == written.tobytes()


def test_float64_is_rounded_to_base64():
    answer = embeddings.respond(np.array([[0.1]]), "base64", model="m", counts=None)
    assert answer["data"] == [item(0, coded(0.1))]


def test_the_answer_to_a_batch():
    counts = embeddings.counts_of([recorded("float"), recorded("tokens")])
    answer = embeddings.respond(np.eye(2), "float", model="m", counts=counts)
    assert answer == {
        "object": "list",
        "data": [item(0, [1.0, 0.0]), item(1, [0.0, 1.0])],
        "model": "m",
        "usage": counts,
    }
    assert CreateEmbeddingResponse.model_validate(answer).to_dict() == answer


def test_counts_are_what_was_paid():
    one = {"usage": {"prompt_tokens": 3, "total_tokens": 4}}
    assert embeddings.counts_of([]) == {"prompt_tokens": 0, "total_tokens": 0}
    assert embeddings.counts_of([one, one]) == {"prompt_tokens": 6, "total_tokens": 8}
    assert embeddings.counts_of([one, {}]) is None
    assert "usage" not in embeddings.respond(np.eye(1), "float", model="m", counts=None)
    assert embeddings.usage({**one, "model": "m"}) == Usage("m", 3, 0)
    assert embeddings.usage({}) is None


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_the_sdk_reads_the_answer(encoding):
    rows = np.array([[0.1, -2.5], [1e-30, 3.0]], np.float32)
    seen = SimpleNamespace()

    def answer(request):
        seen.body = parse_body(request.content)
        found = embeddings.encoding(seen.body)
        counts = embeddings.counts_of([])
        content = write_body(embeddings.respond(rows, found, model="m", counts=counts))
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=content)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = openai.OpenAI(api_key="k", http_client=http)
        chosen = {"encoding_format": encoding} if encoding else {}
        found = client.embeddings.create(model="m", input=["a", "b"], **chosen)
    if encoding == "base64":
        expected = [coded(*row) for row in rows]
    else:
        expected = rows.tolist()
    assert [entry.embedding for entry in found.data] == expected
    assert found.usage.total_tokens == 0
    assert seen.body.get("encoding_format") == (encoding or "base64")


def test_recorded_requests_are_understood():
    for place in FOLDER.glob("openai_embeddings/*.request.json"):
        body = json.loads(place.read_text("utf-8"))["body"]
        assert embeddings.refusal(body) is None
        assert len(embeddings.inputs(body)) == len(body["input"])
