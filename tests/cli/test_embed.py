"""askonce embed."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.bulk import models
from tests.bulk.conftest import fresh_models, server  # noqa: F401  fixtures
from tests.bulk.models import vectors_of
from tests.cli.embedding import MODEL, STORE, read, write
from tests.cli.helpers import in_process
from tests.providers.fault_server import Refuse

def told(out):
    """The plan as it was printed."""
    lines = (line.split(maxsplit=1) for line in out.replace("unusable rows", "unusable"
        ).replace("different texts", "different").replace("already stored", "stored"
        ).replace("to ask for", "to-ask").splitlines())
    return {words[0]: words[1] for words in lines}


def test_files_of_every_kind(embed):
    write("a.txt", ["one", "two"])
    Path("b.jsonl").write_text('{"text": "three"}\n{"text": "one"}\n')
    Path("c.csv").write_text('text,n\n"four, or ""five""",1\n')
    pq.write_table(__import__("pyarrow").table({"text": ["six"]}), "d.parquet")
    result = embed("a.txt", "b.jsonl", "c.csv", "d.parquet", "--out", "out")
    assert result.code == 0, result.err
    ids, vectors = read()
    assert ids == ["a.txt:1", "a.txt:2", "b.jsonl:1", "b.jsonl:2", "c.csv:1", "d.parquet:1"]
    texts = ["one", "two", "three", "one", 'four, or "five"', "six"]
    assert (vectors == vectors_of(texts)).all()
    assert "embedded 6 passages" in result.out
    assert "asked for 5 texts" in result.out
    assert json.loads(Path("out/meta.json").read_text())["rows"] == 6


def test_hashes_are_of_the_texts(embed):
    write("a.txt", ["one"])
    embed("a.txt", "--out", "out")
    (found,) = pq.read_table("out/part-00000.parquet")["hash"].to_pylist()
    assert found == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


def test_plan_asks_for_nothing_and_writes_nothing(embed):
    write("a.txt", ["one", "two", "one", "", "three", "four"])
    Path("b.jsonl").write_text('{"text": null}')
    plan = told(embed("a.txt", "b.jsonl", "--plan").out)
    assert plan["passages"] == "5"
    assert plan["unusable"] == "1"
    assert plan["different"] == "4"
    assert plan["stored"] == "0"
    assert plan["to-ask"] == "4, in 1 batches"
    assert plan["price"].startswith("unknown")
    assert not models.asked
    write("c.txt", ["one", "four"])
    assert embed("c.txt", "--out", "out").code == 0
    models.asked.clear()
    plan = told(embed("a.txt", "--plan", "--batch-size", "1").out)
    assert (plan["stored"], plan["to-ask"]) == ("2", "2, in 2 batches")
    assert not models.asked


def test_a_plan_with_a_price_and_a_rate(embed, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write("a.txt", [f"{number} {'x' * 94}" for number in range(1000, 11000)])
    options = ("--plan", "--rate", "100ktpm", "--batch-size", "100")
    plan = told(embed("a.txt", *options, model="openai:text-embedding-3-large").out)
    tokens = int(plan["tokens"].split()[1].replace(",", ""))
    assert 100_000 < tokens < 500_000
    assert plan["price"] == f"about ${tokens * 0.13e-6:.2f} (estimated)"
    assert plan["to-ask"] == "10,000, in 100 batches"
    assert plan["time"] == f"about {tokens / 100_000:.0f} minutes at the given rate"
    plan = told(embed("a.txt", "--plan", "--rate", "10rpm", "--batch-size", "100",
                      model="openai:nobody-knows").out)  # fmt: skip
    assert plan["price"].startswith("unknown, 'nobody-knows' is not in the price table")
    assert plan["time"] == "about 10 minutes at the given rate"


def test_a_real_local_model(embed, tmp_path):
    folder = model2vec_folder(tmp_path / "static")
    write("a.txt", ["one two", "three", "one two"])
    plan = told(embed("a.txt", "--plan", model=f"model2vec:{folder}").out)
    assert plan["price"] == "none, the model is on this machine"
    assert plan["time"].endswith("at the measured rate")
    assert embed("a.txt", "--out", "out", model=f"model2vec:{folder}").code == 0
    _, vectors = read()
    assert vectors.shape == (3, 256)
    assert (vectors[0] == vectors[2]).all()
    assert not (vectors[0] == vectors[1]).all()


def model2vec_folder(folder):
    """Keep WordLlama's vectors as model2vec keeps its own."""
    from examples.demo.embedders import WordLlama
    from model2vec import StaticModel

    word_llama = WordLlama()
    StaticModel(word_llama._vectors, word_llama._tokenizer).save_pretrained(str(folder))
    return folder


def test_npy(embed):
    write("a.txt", ["one", "two"])
    assert embed("a.txt", "--out", "out", "--format", "npy").code == 0
    assert (np.load("out/vectors.npy", mmap_mode="r") == vectors_of(["one", "two"])).all()
    assert pq.read_table("out/ids.parquet")["id"].to_pylist() == ["a.txt:1", "a.txt:2"]


def test_columns_and_ids(embed):
    Path("a.csv").write_text("key,body\nk1,one\nk2,two\n")
    assert embed("a.csv", "--column", "body", "--id", "key", "--out", "out").code == 0
    assert read()[0] == ["k1", "k2"]


def test_some_fail(embed):
    Path("a.jsonl").write_text('{"text": "one"}\n{"text": "bad"}\n{"text": 3}\n{"text": "four"}\n')
    result = embed("a.jsonl", "--out", "out", model="picky")
    assert result.code == 2
    assert "2 rows failed" in result.out
    lines = Path("out/failures.jsonl").read_text().splitlines()
    assert [(line["row"], line["reason"]) for line in map(json.loads, lines)] == [
        (2, "ValueError: I do not like that"), (3, "'text' is a number, not a text")
    ]  # fmt: skip
    assert read()[0] == ["a.jsonl:1", "a.jsonl:4"]
    assert embed("a.jsonl", "--out", "out", model="picky").code == 2, "and again"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.txt"], "--out is missing"),
        (["nothing.txt", "--out", "out"], "there is nothing at nothing.txt"),
        (["b.csv", "--out", "out"], "b.csv, row 1: there is no column 'text'; give --column one"),
        (["c.parquet", "--out", "out"], "c.parquet, after row 0: not a whole Parquet file"),
        (["a.txt", "--out", "out", "--id", "x"], "a.txt is plain text"),
        (["a.txt", "--out", "folder"], "holds mine, which no job of askonce wrote"),
        (["folder", "--out", "folder/out"], "lies in the input folder"),
        (["a.txt", "--out", "out", "--rate", "3rpm"], "--rate are for models openai:NAME"),
        (["a.txt", "--out", "out", "--rate", "3"], "is no rate"),
        (["a.txt", "--out", "out", "--batch-size", "0"], "--batch-size"),
        ([], "INPUT"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_paid(embed, arguments, message):
    write("a.txt", ["one"])
    Path("b.csv").write_text("body\none\n")
    Path("c.parquet").write_bytes(b"PAR1 and no more")
    Path("folder").mkdir()
    write("folder/mine", ["x"])
    result = embed(*arguments)
    assert result.code == 1
    assert message in result.err
    assert result.err.splitlines()[-1].startswith("askonce: ")
    assert not models.asked
    assert not Path("out").exists()


def test_bad_input_in_the_last_file_is_found_before_anything_is_paid(embed):
    write("a.txt", [str(number) for number in range(3000)])
    Path("z.parquet").write_bytes(b"PAR1 and no more")
    assert "z.parquet" in embed("a.txt", "z.parquet", "--out", "out").error
    assert not models.asked


def test_standard_input(embed, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b'{"text": "one"}\n{"text": "two"}\n'))
    monkeypatch.setattr("sys.stdin", stdin)
    result = embed("-", "--stdin-format", "jsonl", "--out", "out")
    assert result.code == 0
    assert "Copying standard input into a temporary file" in result.err
    assert read()[0] == ["stdin:1", "stdin:2"]


def test_paragraphs(embed):
    Path("a.txt").write_text("one\nmore\n\ntwo\n")
    assert embed("a.txt", "--split", "paragraph", "--out", "out").code == 0
    assert (read()[1] == vectors_of(["one\nmore", "two"])).all()


def test_the_store_in_the_cache_folder(askonce, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache dir?"))
    write("a.txt", ["one"])
    result = askonce("embed", "a.txt", "--model", MODEL.format("embed"), "--out", "out")
    assert result.code == 0
    (line,) = [line for line in result.err.splitlines() if line.startswith("The store is ")]
    assert (tmp_path / "cache dir?" / "askonce" / "embeddings.db").exists()
    assert "askonce/embeddings.db" in line
    assert askonce("ls", line.removeprefix("The store is ")).out.count("\n") == 1


def test_namespaces_are_apart(embed):
    write("a.txt", ["one"])
    embed("a.txt", "--out", "out")
    embed("a.txt", "--out", "out", "--namespace", "other")
    assert len(models.asked) == 2


def test_a_model_that_is_another_now(askonce):
    write("a.txt", ["one"])
    write("b.txt", ["one", "two"])
    options = ("--store", STORE, "--out", "out")
    assert askonce("embed", "a.txt", "--model", MODEL.format("before"), *options).code == 0
    result = askonce("embed", "b.txt", "--model", MODEL.format("after"), *options)
    assert result.code == 1
    assert "9 dimensions, but 8 are stored under its name" in result.err
    other = askonce("embed", "b.txt", "--model", MODEL.format("after"), "--namespace", "2", *options)
    assert other.code == 0


def test_a_refused_key_says_how_to_go_on(askonce, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.rule = lambda body: Refuse(401, {"message": "Incorrect API key"})
    write("it is.txt", map(str, range(10)))
    result = askonce(
        "embed", "it is.txt", "--model", "openai:m", "--base-url", server.base_url,
        "--store", STORE, "--out", "out"
    )  # fmt: skip
    assert result.code == 1
    assert "Incorrect API key" in result.err
    assert "go on with: askonce embed 'it is.txt' --model openai:m --out out --store" in result.err
    assert "sk-secret" not in result.err
    assert not Path("out").exists()


def test_progress_lines_where_there_is_no_terminal(embed, monkeypatch):
    monkeypatch.setattr("askonce.cli.embed_progress._EVERY", 0.0)
    write("a.txt", [f"bad {number}" if number == 7 else str(number) for number in range(30)])
    result = embed("a.txt", "--out", "out", "--batch-size", "10", model="picky")
    lines = [line for line in result.err.splitlines() if " of 30" in line]
    assert len(lines) == 3
    assert lines[-1].startswith("30 of 30, ")
    assert "1 failed" in lines[-1]
    assert lines[-1].endswith(" left")
    assert "reading: 30 rows" in result.err


def test_a_bar_on_a_terminal(embed, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    write("a.txt", map(str, range(30)))
    result = embed("a.txt", "--out", "out", "--batch-size", "10")
    assert result.code == 0
    assert "embedding" in result.err
    assert "30/30" in result.err


def test_without_the_extra_it_says_what_to_install(tmp_path):
    result = in_process(
        "import sys; sys.modules['pyarrow'] = None",
        "from askonce.cli import main",
        "sys.exit(main(['embed', 'a.txt', '--model', 'openai:m', '--plan']))",
        cwd=tmp_path,
    )
    assert result.code == 1
    assert "pip install 'askonce[bulk]'" in result.error


def test_only_this_command_needs_the_extra(tmp_path):
    result = in_process(
        "import sys",
        "for name in ('pyarrow', 'orjson', 'platformdirs', 'genai_prices'): sys.modules[name] = None",
        "from askonce.cli import main",
        "sys.exit(main(['--help']))",
        cwd=tmp_path,
    )
    assert result.code == 0
