"""Limits, token counts, pace and what errors mean: plain functions."""

from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.providers.limits import UNKNOWN, Limits, cut, limits_of
from askonce.providers.pace import Pace
from askonce.providers.refusals import (
    InputTooLongError,
    is_transient,
    read_refusal,
    retry_after,
    words_of,
)
from askonce.providers.tokens import counter, estimate

pytest_plugins = ["tests.parts.tokens"]


@pytest.mark.parametrize(
    ("host", "model", "limits"),
    [
        ("api.openai.com", "text-embedding-3-small", Limits(2048, 300_000)),
        ("eu.api.openai.com", "text-embedding-3-small", Limits(2048, 300_000)),
        ("mine.openai.azure.com", "deployment", Limits(2048, 300_000)),
        ("api.voyageai.com", "voyage-4-lite", Limits(1000, 1_000_000)),
        ("api.voyageai.com", "voyage-4", Limits(1000, 320_000)),
        ("api.voyageai.com", "voyage-4-large", Limits(1000, 120_000)),
        ("api.voyageai.com", "voyage-code-3", Limits(1000, 120_000)),
        ("api.mistral.ai", "mistral-embed", Limits(512, 16_384)),
        ("notapi.mistral.ai.example", "mistral-embed", UNKNOWN),
        ("127.0.0.1", "m", UNKNOWN),
        ("", "m", UNKNOWN),
    ],
)
def test_limits_by_host_and_model(host, model, limits):
    assert limits_of(host, model) == limits


@given(st.lists(st.integers(0, 30)), st.integers(1, 5), st.integers(1, 40))
def test_batches_hold_all_in_order_and_keep_to_the_limits(sizes, inputs, tokens):
    batches = cut(sizes, Limits(inputs, tokens))
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))
    for batch in batches:
        assert 0 < len(batch) <= inputs
        assert len(batch) == 1 or sum(sizes[index] for index in batch) <= tokens


def test_no_batch_could_have_taken_the_next_text():
    sizes = [3, 3, 3, 10, 1, 1, 1, 1, 1]
    assert cut(sizes, Limits(4, 6)) == [[0, 1], [2], [3], [4, 5, 6, 7], [8]]


def test_tokens_are_counted_where_the_table_is_at_hand(table):
    count = counter("text-embedding-3-small")
    assert count("hello world") == 2
    assert count("") == 0
    assert count("<|endoftext|>") > 1
    assert count("a" * 200_000) == estimate("a" * 200_000)
    assert counter("nomic-embed-text") is estimate


def test_the_estimate_is_on_the_high_side(table):
    count = counter("text-embedding-3-small")
    for text in [
        "The quick brown fox jumps over the lazy dog.",
        "def f(x):\n    return x",
        "你好，世界",
    ]:
        assert count(text) <= estimate(text)


def test_nothing_is_fetched_for_counting(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert counter("text-embedding-3-small") is estimate
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path))
    assert counter("text-embedding-3-small") is estimate


def test_pace_spreads_requests_evenly():
    pace = Pace(60)
    assert [pace.reserve(now=10.0) for _ in range(4)] == [0, 1, 2, 3]
    assert pace.reserve(now=100.0) == 0
    pace.pause(30, now=100.0)
    assert pace.reserve(now=110.0) == 20
    assert pace.reserve(now=110.0) == 21
    free = Pace()
    assert [free.reserve(now=0.0) for _ in range(3)] == [0, 0, 0]


def error(status, body=None, headers=None, code=None):
    response = SimpleNamespace(headers=headers or {})
    made = Exception(f"Error code: {status}")
    made.status_code, made.body, made.response, made.code = status, body, response, code
    return made


@pytest.mark.parametrize(
    ("status", "message", "kind", "place"),
    [
        (
            400,
            "This model's maximum context length is 8192 tokens, however you requested",
            "long",
            None,
        ),
        (400, "Invalid 'input': maximum context length is 8192 tokens.", "long", None),
        (400, "Invalid 'input[3]': maximum input length is 8192 tokens.", "long", 3),
        (400, "Requested 304452 tokens, max 300000 tokens per request", "long", None),
        (400, "Too many tokens in batch. Max is 16384 got 17555", "long", None),
        (400, "Too many tokens overall, split into more batches.", "long", None),
        (400, "Input id 5 has 9000 tokens, exceeding max 8192 tokens.", "long", 5),
        (400, "The max allowed tokens per submitted batch is 120000.", "long", None),
        (
            400,
            "This model's maximum context length is 512 tokens. Input contains at least 513",
            "long",
            None,
        ),
        (400, "the input length exceeds the context length", "long", None),
        (
            413,
            "Input validation error: `inputs` must have less than 512 tokens. Given: 600",
            "long",
            None,
        ),
        (413, "Failed to buffer the request body: length limit exceeded", "long", None),
        (413, "whatever a proxy says", "long", None),
        (
            500,
            "input (801 tokens) is too large to process. increase the physical batch size",
            "long",
            None,
        ),
        (422, "batch size 64 > maximum allowed batch size 32", "many", None),
        (400, "Too many inputs in request, split into more batches.", "many", None),
        (
            400,
            "Invalid 'input': array too long. Expected an array with maximum length 2048",
            "many",
            None,
        ),
        (
            400,
            "Value error, batch size is invalid, it should not be larger than 10.: input.contents",
            "many",
            None,
        ),
        (400, "at most 100 requests can be in one batch", "many", None),
        (
            400,
            "The format to return the embeddings in. Can be either float or base64",
            "format",
            None,
        ),
        (422, "encoding_format: extra fields not permitted", "format", None),
        (400, "Input content cannot be empty", "input", None),
        (400, "'$.input' is invalid. Please check the API reference", "input", None),
        (422, "inputs cannot be empty", "input", None),
        (400, "bad characters in input[2]", "input", 2),
    ],
)
def test_refusals_of_real_providers(status, message, kind, place):
    refusal = read_refusal(error(status, {"message": message}))
    assert (refusal.kind, refusal.place) == (kind, place)
    assert not is_transient(error(status, {"message": message}))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "The model `x` does not exist"),
        (400, "This model does not support specifying dimensions."),
        (401, "Incorrect API key provided"),
        (404, "context length"),
        (429, "Rate limit reached: too many tokens, limit 1000000 per min"),
        (500, "The server had an error while processing your request"),
        (500, "encoding_format base64 failed"),
        (503, "input too long"),
    ],
)
def test_errors_that_are_not_about_the_texts(status, message):
    assert read_refusal(error(status, {"message": message})) is None


def test_what_a_provider_repeats_of_the_request_is_not_read():
    """FastAPI sends the whole input back, and a text may speak of anything."""
    body = {"detail": [{"loc": ["body", "model"], "msg": "missing", "input": "context length"}]}
    assert read_refusal(error(422, body)) is None
    assert "missing" in words_of(error(422, body))
    assert words_of(error(400, "plain")) == "plain"
    assert words_of(error(400)) == "Error code: 400"


def test_transient():
    assert all(is_transient(error(status)) for status in (408, 409, 425, 429, 500, 502, 503, 529))
    assert not any(is_transient(error(status)) for status in (400, 401, 403, 404, 422))
    assert not is_transient(error(429, code="insufficient_quota"))
    assert not is_transient(ValueError())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after": formatdate(1_700_000_030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(1_600_000_000, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
    ids=str,
)
def test_retry_after(headers, seconds):
    assert retry_after(error(429, headers=headers), now=1_700_000_000.0) == seconds


def test_retry_after_of_what_is_no_answer():
    assert retry_after(ValueError(), now=0.0) is None


def test_errors_travel_between_processes():
    import copy

    copied = copy.copy(InputTooLongError(3, "too long"))
    assert (type(copied), copied.index, str(copied)) == (
        InputTooLongError,
        3,
        "the text at index 3 was refused: too long",
    )
