"""Spark in its local mode over one Redis."""

import collections
import os
import pathlib
import signal
import sys

import numpy as np
import pandas
import pyarrow.parquet
import pytest

import askonce
from askonce.integrations.spark import Embedder
from tests.alone import alone
from tests.integrations.apart.counting import counting, process_at
from tests.integrations.apart.jobs import BATCH, LINES, TEXTS, example, run_section, shuffled
from tests.integrations.apart.jobs import redis_server as redis_server
from tests.integrations.apart.jobs import store as store
from tests.providers.fault_server import vectors_of


LOCAL = {
    "SPARK_LOCAL_IP": "127.0.0.1",
    # Two workers, and a task may fail three times.
    "PYSPARK_SUBMIT_ARGS": "--master local[2,4] --conf spark.ui.enabled=false pyspark-shell",
}


def job(lines, folder: pathlib.Path, store, server):
    return example(
        "spark_embed.py",
        lines,
        folder,
        environment=LOCAL,
        store=store,
        model="m",
        base_url=server.base_url,
        batch_size=BATCH,
    )


def check_output(folder: pathlib.Path, lines) -> None:
    table = pyarrow.parquet.read_table(folder / "out")
    texts = table["text"].to_pylist()
    assert collections.Counter(texts) == collections.Counter(lines)
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    assert (vectors == vectors_of(texts)).all()
    assert f"embedded {len(lines)} texts" in (folder / "printed").read_text()


def test_each_text_is_asked_for_once_but_for_the_batch_of_a_killed_worker(store, tmp_path):
    lines = shuffled(1)
    with counting(hold_from=600) as server:
        with job(lines, tmp_path / "job", store, server) as spark:
            server.until_waiting(2, lambda: spark.poll() is None)
            workers = {process_at(port): port for port in server.waiting}
            assert len(workers) == 2
            victim, port = workers.popitem()
            os.kill(victim, signal.SIGKILL)
            killed = server.waiting[port]
            server.gate.set()
        check_output(tmp_path / "job", lines)
        assert len(killed) <= BATCH
        assert server.counts == collections.Counter(TEXTS) + collections.Counter(killed)


def test_two_jobs_at_once_share_the_work(store, tmp_path):
    with counting(hold_from=0) as server:
        with (
            job(shuffled(2), tmp_path / "a", store, server) as first,
            job(shuffled(3), tmp_path / "b", store, server) as second,
        ):
            server.until_waiting(4, lambda: first.poll() is None and second.poll() is None)
            server.gate.set()
        assert server.counts == collections.Counter(TEXTS)
    for folder in (tmp_path / "a", tmp_path / "b"):
        check_output(folder, LINES)


def test_the_example_runs_by_itself(tmp_path):
    """Its toy counts letters, its store is a file."""
    lines = ["abba", "cab", "abba"]
    with example("spark_embed.py", lines, tmp_path / "job", environment=LOCAL):
        pass
    table = pyarrow.parquet.read_table(tmp_path / "job" / "out").to_pydict()
    rows = {text: vector[:3] for text, vector in zip(*table.values(), strict=True)}
    assert rows == {"abba": [2, 2, 0], "cab": [1, 1, 1]}


def on_spark() -> None:
    """Replace a column, and show the error of a text that is null."""
    from pyspark.sql import SparkSession

    os.environ.update(LOCAL, PYSPARK_PYTHON=sys.executable)

    def open_cache():
        return askonce.EmbeddingCache(
            lambda texts: [[float(len(text)), 0.1] for text in texts], model="m", store="memory://"
        )

    spark = SparkSession.builder.getOrCreate()
    frame = spark.createDataFrame([("old", "a", 1), ("old", "bb", 2)], "vector string, s string, n int")
    embed = Embedder(open_cache, column="s")
    rows = frame.mapInPandas(embed, embed.schema(frame)).collect()
    assert rows[0].asDict().keys() == {"s", "n", "vector"}
    assert [(row.s, row.n, row.vector[0]) for row in rows] == [("a", 1, 1.0), ("bb", 2, 2.0)]
    assert all(np.float32(row.vector[1]) == np.float32(0.1) for row in rows)
    empty = frame.filter("n > 2")
    assert empty.mapInPandas(embed, embed.schema(empty)).collect() == []
    holes = spark.createDataFrame([("a",), (None,)], "s string")
    try:
        holes.coalesce(1).mapInPandas(embed, embed.schema(holes)).collect()
    except Exception as error:
        assert "the column 's' has null in row 1 of a batch" in str(error), str(error)
    else:
        raise AssertionError
    try:
        Embedder(open_cache).schema(frame)
    except askonce.InputError as error:
        assert "there is no column 'text'; there are 'vector', 's', 'n'" in str(error)
    else:
        raise AssertionError
    spark.stop()


def test_frames():
    alone(on_spark, timeout=240)


def test_the_guide_runs(tmp_path, monkeypatch):
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    alone(run_section, "Spark", tmp_path, timeout=240)


def test_a_partition_that_is_done_closes_its_store(tmp_path):
    made = []

    def open_cache():
        url = f"sqlite:///{tmp_path}/cache.db"
        made.append(askonce.EmbeddingCache(lambda texts: [[1.0]] * len(texts), model="m", store=url))
        return made[0]

    batches = [pandas.DataFrame({"text": ["a", "b"]}), pandas.DataFrame({"text": ["b"]})]
    found = list(Embedder(open_cache)(iter(batches)))
    assert [list(batch.columns) for batch in found] == [["text", "vector"]] * 2
    assert len(made) == 1
    with pytest.raises(askonce.StoreError, match="closed"):
        made[0].store.read(["a"])
