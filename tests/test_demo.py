"""The corpus that ships, and the real models through the caches."""

import os
import subprocess
import sys

import numpy as np
import openai
import pytest
from examples.demo import corpus, process

from askonce import EmbeddingCache

pytest_plugins = ["tests.parts.fixtures"]


@pytest.fixture(scope="module")
def passages() -> list[str]:
    return corpus.PATH.read_text("utf-8").split("\n\n")


def test_the_corpus_has_a_thousand_passages_and_stays_small(passages):
    assert len(passages) >= 1000
    assert all(passage.strip() for passage in passages)
    assert corpus.PATH.stat().st_size < 1_000_000


def test_a_hit_equals_its_miss_to_the_last_bit(embedder, passages, tmp_path):
    asked = []

    def embed(texts):
        asked.extend(texts)
        return embedder(texts)

    url = f"sqlite:///{tmp_path}/vectors.db"
    texts = [*passages[:1000], *passages[:10]]
    bare = embedder(texts)
    for expected in (1000, 1000):
        cache = EmbeddingCache(embed, model=embedder.name, store=url)
        vectors = cache.embed(texts)
        cache.close()
        assert vectors.dtype == np.float32
        assert vectors.tobytes() == bare.tobytes()
        assert len(asked) == expected


def test_a_single_text_equals_the_same_text_in_a_batch(embedder, passages, tmp_path):
    cache = EmbeddingCache(embedder, model=embedder.name, store=f"sqlite:///{tmp_path}/v.db")
    alone = np.stack([cache.embed_query(text) for text in passages[:50]])
    cache.clear()
    assert cache.embed(passages[:50]).tobytes() == alone.tobytes()
    cache.close()


def test_meaning_survives_the_cache(embedder, passages, tmp_path):
    cache = EmbeddingCache(embedder, model=embedder.name, store=f"sqlite:///{tmp_path}/v.db")
    cache.embed(passages)
    nearness = cache.embed(passages) @ cache.embed_query("the purchase of Louisiana from France")
    assert "Louisiana" in passages[int(nearness.argmax())]
    cache.close()


def test_a_real_answer_is_asked_for_once(llm_server, tmp_path):
    from langchain_core.callbacks import UsageMetadataCallbackHandler
    from langchain_openai import ChatOpenAI

    from askonce.integrations.langchain import SQLiteCache

    usage = UsageMetadataCallbackHandler()
    database = str(tmp_path / "chat.db")
    before = llm_server.requests("/chat/completions")
    answers = []
    with openai.DefaultHttpxClient() as client:
        for _ in range(2):
            cache = SQLiteCache(database_path=database)
            model = ChatOpenAI(
                model=llm_server.model,
                base_url=llm_server.base_url,
                api_key="none",
                max_tokens=40,
                cache=cache,
                http_client=client,
                callbacks=[usage],
            )
            answers.append(model.invoke("Tell me a joke"))
            cache.close()
            tokens = sum(used["total_tokens"] for used in usage.usage_metadata.values())
            assert tokens == answers[0].usage_metadata["total_tokens"]
    assert llm_server.requests("/chat/completions") == before + 1
    assert answers[0].content
    assert answers[1].content == answers[0].content
    assert answers[1].response_metadata == answers[0].response_metadata


def test_the_front_passes_a_stream_on(llm_server):
    with openai.OpenAI(base_url=llm_server.base_url, api_key="none") as client:
        chunks = client.chat.completions.create(
            model=llm_server.model,
            messages=[{"role": "user", "content": "Count to three"}],
            max_tokens=8,
            stream=True,
        )
        assert len(list(chunks)) > 2


def test_the_demo_does_the_main_job(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--folder", str(tmp_path)],
        cwd=process.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "could not run" not in done.stdout
