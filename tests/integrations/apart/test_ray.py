"""Ray Data over one Redis: on a cluster of two nodes, and without one."""

import collections
import os
import pathlib
import re
import shutil
import signal
import tempfile

import numpy as np
import pandas
import psutil
import pyarrow
import pyarrow.parquet
import pytest

import askonce
from askonce.integrations.ray import Embedder
from tests.alone import alone
from tests.integrations.apart.counting import counting, process_at
from tests.integrations.apart.jobs import BATCH, LINES, TEXTS, example, run_section, shuffled
from tests.integrations.apart.jobs import redis_server as redis_server
from tests.integrations.apart.jobs import store as store
from tests.providers.fault_server import vectors_of


@pytest.fixture(scope="module")
def cluster():
    """Give the address of two nodes with two processors each."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # short: sockets are in it
    # The cluster notes its address in Ray's usual folder, and does not make that.
    pathlib.Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
    node = {"num_cpus": 2, "object_store_memory": 100_000_000}
    nodes = Cluster(
        initialize_head=True,
        head_node_args={**node, "include_dashboard": False, "temp_dir": folder},
    )
    try:
        nodes.add_node(**node)
        nodes.wait_for_nodes()
        yield nodes.address
    finally:
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def on_cluster(lines, folder: pathlib.Path, cluster, store, server, workers: int):
    return example(
        "ray_embed.py",
        lines,
        folder,
        address=cluster,
        store=store,
        model="m",
        base_url=server.base_url,
        batch_size=BATCH,
        block_size=100,
        workers=workers,
    )


def check_output(folder: pathlib.Path, lines) -> int:
    """Check all that a job wrote, and give how many texts it says it asked for."""
    table = pyarrow.parquet.read_table(folder / "out")
    texts = table["text"].to_pylist()
    assert collections.Counter(texts) == collections.Counter(lines)
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), 16)
    vectors = table["vector"].combine_chunks().values.to_numpy().reshape(-1, 16)
    assert (vectors == vectors_of(texts)).all()
    printed = (folder / "printed").read_text()
    said = re.search(r"^embedded (\d+) texts, asked for (\d+)$", printed, re.MULTILINE)
    assert said is not None, printed
    assert int(said[1]) == len(lines)
    return int(said[2])


def test_each_text_is_asked_for_once_but_for_the_batch_of_a_killed_worker(
    cluster, store, tmp_path
):
    lines = shuffled(1)
    with counting(hold_from=600) as server:
        with on_cluster(lines, tmp_path / "job", cluster, store, server, workers=4) as job:
            server.until_waiting(4, lambda: job.poll() is None)
            workers = {process_at(port): port for port in server.waiting}
            assert len(workers) == 4
            assert len({psutil.Process(worker).ppid() for worker in workers}) == 2  # the nodes
            victim, port = workers.popitem()
            os.kill(victim, signal.SIGKILL)
            killed = server.waiting[port]
            server.gate.set()
        assert check_output(tmp_path / "job", lines) == len(TEXTS)
        assert len(killed) <= BATCH
        assert server.counts == collections.Counter(TEXTS) + collections.Counter(killed)


def test_two_jobs_at_once_share_the_work(cluster, store, tmp_path):
    with counting(hold_from=0) as server:
        with (
            on_cluster(shuffled(2), tmp_path / "a", cluster, store, server, workers=2) as first,
            on_cluster(shuffled(3), tmp_path / "b", cluster, store, server, workers=2) as second,
        ):
            server.until_waiting(4, lambda: first.poll() is None and second.poll() is None)
            server.gate.set()
        assert server.counts == collections.Counter(TEXTS)
    asked = [check_output(tmp_path / job, LINES) for job in "ab"]
    assert sum(asked) == len(TEXTS)
    assert min(asked) > 0


def test_the_example_runs_by_itself(tmp_path):
    """Its toy counts letters, its store is a file."""
    store = f"sqlite:///{tmp_path}/vectors.db"
    for run in ("a", "b"):
        with example("ray_embed.py", ["abba", "cab", "abba"], tmp_path / run, store=store):
            pass
        table = pyarrow.parquet.read_table(tmp_path / run / "out").to_pydict()
        rows = {text: vector[:3] for text, vector in zip(*table.values(), strict=True)}
        assert rows == {"abba": [2, 2, 0], "cab": [1, 1, 1]}
        printed = (tmp_path / run / "printed").read_text()
        assert f"embedded 3 texts, asked for {2 if run == 'a' else 0}\n" in printed


def on_ray(address: str) -> None:
    """Map batches of each format, with rows that were filtered out, and show an error."""
    import ray

    def open_cache():
        return askonce.EmbeddingCache(
            lambda texts: [[float(len(text)), 0.1] for text in texts], model="m", store="memory://"
        )

    ray.init(address=address, log_to_driver=False)
    data = ray.data.from_items([{"n": n, "words": "x" * n} for n in range(8)], override_num_blocks=4)
    pool = {"compute": ray.data.ActorPoolStrategy(size=1), "num_cpus": 0.25}
    names = {"fn_constructor_kwargs": {"column": "words", "to": "numbers"}}
    for format in ("numpy", "pyarrow", "pandas"):
        vectors = data.filter(lambda row: row["n"] >= 3).map_batches(
            Embedder, fn_constructor_args=(open_cache,), batch_format=format, **names, **pool
        )
        rows = vectors.take_all()
        assert sorted((row["n"], row["numbers"][0]) for row in rows) == [(n, n) for n in range(3, 8)]
        assert all(np.asarray(row["numbers"], np.float32)[1] == np.float32(0.1) for row in rows)
    try:
        data.map_batches(Embedder, fn_constructor_args=(open_cache,), **pool).take_all()
    except Exception as error:
        assert "there is no column 'text'; there are 'n', 'words'" in str(error)
    else:
        raise AssertionError


def test_batches_of_each_format(cluster):
    alone(on_ray, cluster, timeout=240)


def test_the_guide_runs(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    alone(run_section, "Ray", tmp_path, timeout=240)


@pytest.fixture
def embed():
    cache = askonce.EmbeddingCache(
        lambda texts: [[float(len(text)), 0.1] for text in texts], model="m", store="memory://"
    )
    return Embedder(lambda: cache)


def test_arrow_lists_take_the_place_of_a_column(embed):
    table = pyarrow.table({"vector": ["old", "old"], "text": ["a", "bb"]})
    found = embed(table)
    assert found.column_names == ["vector", "text"]
    assert found["vector"].to_pylist() == [[1.0, np.float32(0.1)], [2.0, np.float32(0.1)]]
    assert found["vector"].type == pyarrow.list_(pyarrow.float32(), 2)


@pytest.mark.parametrize(
    "batch, what",
    [
        ({"text": np.array(["a", None], object)}, "null"),
        (pyarrow.table({"text": ["a", None]}), "null"),
        (pandas.DataFrame({"text": ["a", None]}), "null"),
        ({"text": np.array(["a", 1.5], object)}, "a float"),
        ({"text": np.array([b"a", b"b"])}, "a bytes"),
    ],
)
def test_what_is_no_text_is_refused(embed, batch, what):
    with pytest.raises(askonce.InputTypeError, match=f"column 'text' has {what} in row [01] of a batch"):
        embed(batch)


def test_a_cache_cannot_be_sent_to_workers():
    with askonce.open_store("memory://") as store:
        cache = askonce.EmbeddingCache(list, model="m", store=store)
        with pytest.raises(askonce.InputTypeError, match="give a function without arguments"):
            Embedder(cache)
    with pytest.raises(askonce.InputTypeError, match="open_cache gave a str"):
        Embedder(lambda: "sqlite:///x.db")
    with pytest.raises(askonce.InputTypeError, match="named by a string, not by 3"):
        Embedder(lambda: cache, column=3)


def test_a_worker_that_is_done_closes_its_store(tmp_path):
    made = []

    def open_cache():
        url = f"sqlite:///{tmp_path}/cache.db"
        made.append(askonce.EmbeddingCache(lambda texts: [[1.0]] * len(texts), model="m", store=url))
        return made[0]

    embed = Embedder(open_cache)
    embed({"text": np.array(["a"])})
    del embed
    with pytest.raises(askonce.StoreError, match="closed"):
        made[0].store.read(["a"])
