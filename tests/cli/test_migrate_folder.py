"""Migrating folders that LangChain's `LocalFileStore` really wrote."""

import json
import os
import signal

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings as TheirEmbeddings
from langchain_classic.storage import LocalFileStore as TheirFileStore
from langchain_core.embeddings import Embeddings

from askonce import open_store
from askonce.cli.migration import Copy, Item
from askonce.core import codecs, entry
from askonce.integrations.langchain import CacheBackedEmbeddings
from askonce.stores.memory import MemoryStore
from tests.cli.helpers import in_process

ENCODERS = ["sha1", "blake2b", "sha256", "sha512"]
STORES = ["sqlite:///new", "file:///new", "lmdb:///new"]


class Model(Embeddings):
    """Embed by a formula; vectors need float64 for every third text."""

    def __init__(self):
        self.asked = []

    def embed_documents(self, texts):
        self.asked += texts
        return [self.vector(text) for text in texts]

    def embed_query(self, text):
        return self.vector(text)

    @staticmethod
    def vector(text):
        seed = int.from_bytes(text.encode(), "little") % 2**32
        vector = np.random.default_rng(seed).standard_normal(8)
        return (vector if seed % 3 == 0 else vector.astype(np.float32)).tolist()


def texts(count):
    return [f"passage {number}" for number in range(count)]


def write_old(root, count=20, *, namespace="model/", encoder="blake2b"):
    """Let LangChain embed into a folder of its own format."""
    TheirEmbeddings.from_bytes_store(
        Model(), TheirFileStore(root), namespace=namespace, key_encoder=encoder
    ).embed_documents(texts(count))


def snapshot(root):
    """Everything about a folder that must stay as it is."""
    return {
        path: (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.filterwarnings("ignore:Using default key encoder")
@pytest.mark.filterwarnings("ignore:The cache of embeddings has no namespace")
@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize("namespace", ["", "model", "team/model-", "a.b/c_d/e"])
def test_what_was_paid_for_keeps_hitting(askonce, tmp_path, url, namespace):
    for encoder in ENCODERS:
        write_old(tmp_path / "old", namespace=namespace, encoder=encoder)
    before = snapshot(tmp_path / "old")
    result = askonce("migrate", "old", url)
    assert (result.code, result.err) == (0, "")
    assert result.out == "migrated 80, already there 0, could not be read 0\n"
    assert snapshot(tmp_path / "old") == before
    for encoder in ENCODERS:
        model = Model()
        with open_store(url) as store:
            ours = CacheBackedEmbeddings.from_bytes_store(
                model, store, namespace=namespace, key_encoder=encoder
            )
            assert ours.embed_documents(texts(20)) == list(map(Model.vector, texts(20)))
        assert not model.asked


def test_entries_are_not_bound_and_as_old_as_their_files(askonce, tmp_path):
    write_old(tmp_path / "old", count=1)
    (file,) = (path for path in (tmp_path / "old").rglob("*") if path.is_file())
    os.utime(file, (1e9, 1e9))
    askonce("migrate", "old", "sqlite:///new")
    with open_store("sqlite:///new") as store:
        (key,) = store.keys()
        found = entry.unpack(store.read([key])[0])
    assert key == str(file.relative_to(tmp_path / "old"))
    assert (found.binding, found.created, found.expires) == (0, 1e9, entry.NEVER)


def test_again_there_is_nothing_to_do(askonce, tmp_path):
    write_old(tmp_path / "old")
    askonce("migrate", "old", "sqlite:///new")
    with open_store("sqlite:///new") as store:
        before = store.read(sorted(store.keys()))
    result = askonce("migrate", "old", "sqlite:///new")
    assert (result.code, result.out) == (
        0,
        "migrated 0, already there 20, could not be read 0\n",
    )
    with open_store("sqlite:///new") as store:
        assert store.read(sorted(store.keys())) == before


@pytest.mark.parametrize("fatal", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("url", STORES)
def test_stopped_midway_it_goes_on(askonce, tmp_path, url, fatal):
    write_old(tmp_path / "old", count=1000)
    stopped = in_process(
        "import os, signal, sys",
        "from askonce.cli import main, migrate",
        "opened = migrate.open_store",
        "def open_store(url):",
        "    store = opened(url)",
        "    write, writes = store.write, []",
        "    def fatal_write(entries):",
        "        if len(writes) == 2:",
        f"            os.kill(os.getpid(), signal.{fatal})",
        "        writes.append(write(entries))",
        "    store.write = fatal_write",
        "    return store",
        "migrate.open_store = open_store",
        f"sys.exit(main(['migrate', 'old', {url!r}]))",
        cwd=tmp_path,
    )
    if fatal == "SIGKILL":
        assert stopped.code == -signal.SIGKILL
    else:
        assert stopped.code == 130
        assert stopped.out == "migrated 600, already there 0, could not be read 0\n"
        assert "run the command again to go on" in stopped.err
        assert stopped.err.endswith("askonce: interrupted\n")
    result = askonce("migrate", "old", url)
    assert result.code == 0
    assert result.out == "migrated 400, already there 600, could not be read 0\n"
    model = Model()
    with open_store(url) as store:
        ours = CacheBackedEmbeddings.from_bytes_store(
            model, store, namespace="model/", key_encoder="blake2b"
        )
        ours.embed_documents(texts(1000))
    assert not model.asked


UNREADABLE = {
    "empty": (b"", "the file is empty"),
    "cut-short": (b"[0.25, 0.5", "not all of it"),
    "no-json": (b"\x00\x01\x02", "it is not JSON"),
    "no-utf-8": (b"\xff\xfe\xfa[1.0]", "it is not JSON"),
    "a-document": (b'{"page_content": "x"}', "no list of numbers"),
    "no-numbers": (b'["a", "b"]', "no list of finite numbers"),
    "nothing-in-it": (b"[]", "no list of finite numbers"),
    "nan": (b"[NaN, 1.0]", "no list of finite numbers"),
    "nested": (b"[[1.0], [2.0]]", "no list of finite numbers"),
    "huge": (b"[1" + b"0" * 400 + b"]", "no list of finite numbers"),
    "deep": (b"[" * 100_000, "it is not JSON"),
    "damaged-entry": (b"ASK1 and nothing more", "damaged"),
}


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(askonce, tmp_path):
    write_old(tmp_path / "old")
    for name, (content, _) in UNREADABLE.items():
        (tmp_path / "old" / name).write_bytes(content)
    before = snapshot(tmp_path / "old")
    result = askonce("migrate", "old", "sqlite:///new", "--report", "report.jsonl")
    assert result.code == 2
    assert result.out == f"migrated 20, already there 0, could not be read {len(UNREADABLE)}\n"
    lines = (tmp_path / "report.jsonl").read_text().splitlines()
    reasons = {line["origin"]: line["reason"] for line in map(json.loads, lines)}
    assert set(reasons) == {os.path.join("old", name) for name in UNREADABLE}
    for name, (_, reason) in UNREADABLE.items():
        path = os.path.join("old", name)
        assert reason in reasons[path]
        assert f"{path}: " in result.err
    assert snapshot(tmp_path / "old") == before


def test_many_problems_are_counted_and_not_all_shown(askonce, tmp_path):
    (tmp_path / "old").mkdir()
    for number in range(50):
        (tmp_path / "old" / str(number)).write_bytes(b"")
    result = askonce("migrate", "old", "sqlite:///new", "--report", "report.jsonl")
    assert result.out == "migrated 0, already there 0, could not be read 50\n"
    assert len(result.err.splitlines()) == 21
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == 50


def test_links(askonce, tmp_path):
    write_old(tmp_path / "old", count=1, namespace="")
    (file,) = (tmp_path / "old").iterdir()
    (tmp_path / "old" / "linked").symlink_to(file)
    (tmp_path / "old" / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "old" / "loop").symlink_to(tmp_path / "old")
    result = askonce("migrate", "old", "sqlite:///new")
    assert result.out == "migrated 2, already there 0, could not be read 2\n"


def test_whole_numbers_and_lengths_of_any_kind(askonce, tmp_path):
    TheirFileStore(tmp_path / "old").mset(
        [("ints", b"[1, 0, -3]"), ("one", b"[0.1]"), ("wide", json.dumps([0.5] * 3072).encode())]
    )
    askonce("migrate", "old", "sqlite:///new")
    with open_store("sqlite:///new") as store:
        found = [entry.unpack(blob) for blob in store.read(["ints", "one", "wide"])]
    assert [one.codec for one in found] == [codecs.FLOAT32, codecs.FLOAT64, codecs.FLOAT32]
    assert np.frombuffer(found[0].payload, "<f4").tolist() == [1.0, 0.0, -3.0]
    assert np.frombuffer(found[1].payload, "<f8").tolist() == [0.1]


def test_a_folder_that_askonce_went_on_with(askonce, tmp_path):
    """LangChain wrote some, we added some, with a namespace that LangChain would refuse."""
    write_old(tmp_path / "old", namespace="ns")
    with open_store("file:///old") as store:
        ours = CacheBackedEmbeddings.from_bytes_store(
            Model(), store, namespace="ns:latest", key_encoder="sha256"
        )
        ours.embed_documents(texts(5))
    assert askonce("migrate", "old", "sqlite:///new").out.startswith("migrated 25, ")
    model = Model()
    with open_store("sqlite:///new") as store:
        CacheBackedEmbeddings.from_bytes_store(
            model, store, namespace="ns:latest", key_encoder="sha256"
        ).embed_documents(texts(5))
    assert not model.asked


def test_good_entries_stay_and_bad_ones_are_replaced(askonce, tmp_path):
    write_old(tmp_path / "old", count=4, namespace="")
    keys = sorted(path.name for path in (tmp_path / "old").iterdir())
    own = entry.pack(entry.Entry(b"\0" * 8, codecs.FLOAT32, created=1.0, binding=7))
    gone = entry.pack(entry.Entry(b"\0" * 8, codecs.FLOAT32, created=1.0, expires=2.0))
    theirs = b"[1.0, 2.0]"
    with open_store("sqlite:///new") as store:
        store.write(dict(zip(keys, [own, gone, b"ASK1 damaged", theirs], strict=True)))
    result = askonce("migrate", "old", "sqlite:///new")
    assert result.out == "migrated 2, already there 2, could not be read 0\n"
    with open_store("sqlite:///new") as store:
        found = store.read(keys)
    assert (found[0], found[3]) == (own, theirs)
    assert all(entry.unpack(blob).expires == entry.NEVER for blob in found[1:3])


def test_a_key_that_the_store_does_not_take(askonce, tmp_path):
    long_key = "/".join(["x" * 200] * 3)
    TheirFileStore(tmp_path / "old").mset([(long_key, b"[1.0]"), ("short", b"[2.0]")])
    result = askonce("migrate", "old", "lmdb:///new")
    assert result.code == 2
    assert result.out == "migrated 1, already there 0, could not be read 1\n"
    assert "511 bytes" in result.err
    assert askonce("migrate", "old", "sqlite:///new.db").code == 0


def test_a_store_that_takes_nothing(askonce, tmp_path, monkeypatch):
    write_old(tmp_path / "old")
    (tmp_path / "new").write_bytes(b"no database at all, but long enough to be looked at" * 10)
    result = askonce("migrate", "old", "sqlite:///new")
    assert result.code == 1
    assert "not an SQLite database" in result.error


def test_an_empty_folder_is_done_at_once(askonce, tmp_path):
    (tmp_path / "old").mkdir()
    result = askonce("migrate", "old", "sqlite:///new")
    assert (result.code, result.out) == (0, "migrated 0, already there 0, could not be read 0\n")


def test_nothing_at_old(askonce, tmp_path):
    result = askonce("migrate", "old", "sqlite:///new")
    assert result.code == 1
    assert "there is nothing at old" in result.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("new", ["file:///old", "sqlite:///old/new.db", "lmdb:///old/a/b"])
def test_new_inside_old(askonce, tmp_path, new):
    write_old(tmp_path / "old")
    before = snapshot(tmp_path / "old")
    result = askonce("migrate", "old", new)
    assert result.code == 1
    assert "OLD itself" in result.error
    assert snapshot(tmp_path / "old") == before


def test_new_that_is_no_store(askonce, tmp_path):
    write_old(tmp_path / "old")
    result = askonce("migrate", "old", "new")
    assert result.code == 1
    assert "'new' is not a store URL" in result.error


def test_a_report_that_cannot_be_written(askonce, tmp_path):
    write_old(tmp_path / "old")
    result = askonce("migrate", "old", "sqlite:///new", "--report", "no/such/report")
    assert result.code == 1
    assert "no/such/report" in result.error


def test_only_a_batch_is_in_memory():
    """Nothing is read before what came before it is written."""
    read = []

    class Source:
        def items(self):
            for number in range(1000):
                yield Item("", f"key-{number}", lambda: read.append(1) or b"value")

    class Written(MemoryStore):
        def write(self, entries, *, expires=entry.NEVER):
            super().write(entries)
            written.append((len(read), sum(1 for _ in self.keys())))

    written = []
    Copy(Written(), print, lambda count: None).run(Source())
    assert written == [(300, 300), (600, 600), (900, 900), (1000, 1000)]
