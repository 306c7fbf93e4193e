"""Files: complete or absent, and open in what people use."""

import json

import duckdb
import faiss
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError
from askonce.bulk import writers
from askonce.bulk.output import Output
from askonce.bulk.passages import Refused
from askonce.bulk.writers import open_writer


def fill(folder, kind, vectors, step=3, finish=True):
    ids = [f"id {number}\n" for number in range(len(vectors))]
    hashes = [f"{number:064x}" for number in range(len(vectors))]
    with Output(folder) as output:
        writer = open_writer(kind, output, vectors.shape[1])
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            writer.write(ids[part], hashes[part], vectors[part])
        if not finish:
            writer.abandon()
            return
        output.complete(writer.close(), {"rows": len(vectors)})


@pytest.fixture
def vectors():
    return np.random.default_rng(0).standard_normal((100, 16), np.float32)


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(writers, "_GROUP", 10 * 16 * 4)
    monkeypatch.setattr(writers, "_PART", 30 * 16 * 4)
    monkeypatch.setattr(writers, "_NAMES_AT_ONCE", 7)


def test_parquet_parts(tmp_path, vectors, small_groups):
    fill(tmp_path / "out", "parquet", vectors)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["meta.json", *(f"part-{number:05}.parquet" for number in range(4))]
    assert json.loads((tmp_path / "out" / "meta.json").read_text()) == {"rows": 100, "files": names}
    counts = [pq.read_metadata(tmp_path / "out" / name).num_rows for name in names[1:]]
    assert counts == [30, 30, 30, 10]


def test_parquet_in_numpy(tmp_path, vectors, small_groups):
    fill(tmp_path / "out", "parquet", vectors)
    table = pq.read_table(sorted((tmp_path / "out").glob("*.parquet")))
    column = table["vector"].combine_chunks()
    assert (column.values.to_numpy().reshape(-1, 16) == vectors).all()
    assert table["id"].to_pylist()[:2] == ["id 0\n", "id 1\n"]
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float not null>[16]"


def test_parquet_in_polars(tmp_path, vectors, small_groups):
    fill(tmp_path / "out", "parquet", vectors)
    frame = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert frame.schema["vector"] == pl.Array(pl.Float32, 16)
    assert (frame["vector"].to_numpy() == vectors).all()


def test_parquet_in_duckdb(tmp_path, vectors, small_groups):
    fill(tmp_path / "out", "parquet", vectors)
    query = f"""
        SELECT id FROM '{tmp_path / "out"}/*.parquet'
        ORDER BY array_distance(vector::FLOAT[16], ?::FLOAT[16]) LIMIT 1
    """
    assert duckdb.execute(query, [vectors[42].tolist()]).fetchall() == [("id 42\n",)]


def test_npy_in_numpy_and_faiss(tmp_path, vectors, small_groups):
    fill(tmp_path / "out", "npy", vectors)
    found = np.load(tmp_path / "out" / "vectors.npy", mmap_mode="r")
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert (found == vectors).all()
    index = faiss.IndexFlatL2(16)
    index.add(found)
    assert index.search(vectors[42:43], 1)[1] == [[42]]
    ids = pq.read_table(tmp_path / "out" / "ids.parquet")
    assert ids["id"].to_pylist() == [f"id {number}\n" for number in range(100)]
    assert ids.column_names == ["id", "hash"]


@pytest.mark.parametrize("kind", ["parquet", "npy"])
@given(
    count=st.integers(1, 40),
    dimensions=st.integers(1, 5),
    step=st.integers(1, 15),
    double=st.booleans(),
)
def test_any_number_of_rows(kind, count, dimensions, step, double, tmp_path_factory):
    rows = np.random.default_rng(count).standard_normal((count, dimensions))
    rows = rows if double else rows.astype(np.float32)
    folder = tmp_path_factory.mktemp("any") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "_GROUP", 28)
        patch.setattr(writers, "_PART", 60)
        fill(folder, kind, rows, step)
    if kind == "npy":
        found = np.load(folder / "vectors.npy")
    else:
        table = pq.read_table(sorted(folder.glob("*.parquet")))
        found = np.array(table["vector"].to_pylist(), np.float32)
        assert table["id"].to_pylist() == [f"id {number}\n" for number in range(count)]
    assert (found == rows.astype(np.float32)).all()


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_an_output_that_is_not_completed_leaves_nothing(tmp_path, vectors, kind):
    fill(tmp_path / "out", kind, vectors, finish=False)
    assert not list(tmp_path.iterdir())


def test_an_output_takes_the_place_of_the_one_before(tmp_path, vectors):
    fill(tmp_path / "out", "parquet", vectors)
    fill(tmp_path / "out", "npy", vectors, finish=False)
    assert (tmp_path / "out" / "part-00000.parquet").exists()
    fill(tmp_path / "out", "npy", vectors)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"vectors.npy", "ids.parquet", "meta.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_job_left_is_removed(tmp_path, vectors):
    left = tmp_path / ".out.askonce"
    for name in ("output", "old"):
        (left / name).mkdir(parents=True)
        (left / name / "part-00007.parquet").write_bytes(b"half")
    fill(tmp_path / "out", "npy", vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("meta", [None, "{", "[]", '{"files": 3}', '{"files": ["meta.json"]}'])
def test_a_folder_of_someone_elses_is_left_alone(tmp_path, meta):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.faiss").write_text("mine")
    if meta is not None:
        (tmp_path / "out" / "meta.json").write_text(meta)
    with pytest.raises(InputError, match="index.faiss, which no job of askonce wrote; give --out"):
        Output(tmp_path / "out")
    assert (tmp_path / "out" / "index.faiss").read_text() == "mine"


def test_files_that_appear_meanwhile_are_left_alone(tmp_path, vectors):
    with Output(tmp_path / "out") as output:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        with pytest.raises(InputError, match="holds mine"):
            output.complete([], {})
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_an_empty_folder_and_a_file(tmp_path, vectors):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "npy", vectors)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder that can be replaced"):
        Output(tmp_path / "file")


def test_two_jobs_at_one_output(tmp_path, vectors):
    with Output(tmp_path / "out") as output:
        with pytest.raises(InputError, match="another job is writing to"), Output(tmp_path / "out"):
            pass
        writer = open_writer("npy", output, 16)
        writer.write(["a"], ["b"], vectors[:1])
        output.refuse(Refused("x", "f", 1, "é"))
        output.complete(writer.close(), {})
    assert '"é"' in (tmp_path / "out" / "failures.jsonl").read_text()
