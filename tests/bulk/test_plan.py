"""Counting: passages, different texts, tokens."""

from hypothesis import given
from hypothesis import strategies as st

from askonce.bulk.plan import _Texts
from askonce.bulk.tokens import Samples, price_of


@given(st.lists(st.text(max_size=3)))
def test_different_texts_and_their_bytes(texts):
    counted = _Texts()
    for text in texts:
        counted.add(text)
    different = set(texts)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in different)
    assert len(counted) == len(texts)
    assert counted.unique() == (len(different), size)


def test_samples_come_from_all_over():
    samples = Samples()
    for number in range(200_000):
        samples.offer(str(number))
    assert len(samples.texts) == 2000
    assert samples.texts[:2] == ["0", "1"]
    assert int(samples.texts[-1]) > 100_000


def test_tokens_by_the_tokenizer_of_the_model_or_by_length(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    samples = Samples(["a text of some words"])
    assert samples.tokens_per_byte("text-embedding-3-small") == 0.25, "there is no table"
    assert samples.tokens_per_byte("another") == 0.25
    assert Samples([]).tokens_per_byte("text-embedding-3-small") == 0.25


def test_prices():
    assert round(price_of("text-embedding-3-small", base_url=None) * 1e6, 3) == 0.02
    openai = "https://api.openai.com/v1"
    assert round(price_of("text-embedding-3-small", base_url=openai) * 1e6, 3) == 0.02
    assert price_of("text-embedding-3-small", base_url="http://localhost:8000/v1") is None
    assert price_of("nobody-knows", base_url=None) is None
