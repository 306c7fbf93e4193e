"""copy, export and import, on real stores."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from askonce import EmbeddingCache, StoreError, archive, open_store, transfer
from askonce.core import codecs, entry
from askonce.stores.memory import MemoryStore
from askonce.stores.postgres import PostgresStore
from tests.servers.postgres import PATIENT, postgres, table

__all__ = ["postgres", "table"]

PLACES = ["sqlite:///{}.db", "lmdb:///{}", "file:///{}"]
DAY = 86400.0
ROOT = Path(__file__).parents[2]


def packed(payload=b"{}", age=0.0, expires=math.inf):
    return entry.pack(entry.Entry(payload, codecs.JSON, time.time() - age, expires))


def fill(url):
    """Store vectors, answers with and without an end, tags' epochs, values of others."""
    now = time.time()
    with open_store(url) as store:
        cache = EmbeddingCache(lambda texts: [[1.0, 2.0]] * len(texts), model="m", store=store)
        cache.embed([f"text {number}" for number in range(250)])
        for hours in range(1, 40):
            end = now + 3600 * hours
            store.write({f"_/chat/m/{hours}": packed(b"x" * hours, expires=end)}, expires=end)
        store.write({"team/tag/news": packed(b"epoch"), "langchain": b"[1.0, 2.0]"})
        store.write({"ümläut/key with spaces": packed(os.urandom(70_000))})


def content(url):
    with open_store(url) as store:
        keys = [key for key in store.keys() if not key.startswith("~askonce/")]
        return dict(zip(keys, store.read(keys), strict=True))


@pytest.mark.parametrize("dst", PLACES)
@pytest.mark.parametrize("src", PLACES)
def test_copies_every_byte_between_any_two(askonce, src, dst):
    src, dst = src.format("src"), dst.format("dst")
    fill(src)
    before = content(src)
    result = askonce("copy", src, dst, "--verify")
    assert (result.code, result.out, result.err) == (0, "copied 292\n", "")
    assert content(dst) == before == content(src)
    assert askonce("copy", src, dst).out == "copied 0, already there 292\n"


def test_copies_to_a_server_and_back(askonce, postgres, table):
    fill("sqlite:///src.db")
    url = postgres.url(table=table)
    assert askonce("copy", "sqlite:///src.db", url, "--verify").out == "copied 292\n"
    assert askonce("copy", url, "lmdb:///dst").out == "copied 292\n"
    assert content("lmdb:///dst") == content("sqlite:///src.db")
    ends = dict(postgres.execute(f"SELECT key, expires FROM {table}"))
    assert ends["langchain"] == math.inf
    for hours in range(1, 40):
        (_, end) = entry.times_of(content("lmdb:///dst")[f"_/chat/m/{hours}"])
        left = end - time.time()
        assert end <= ends[f"_/chat/m/{hours}"] <= end + left / 7


def test_copies_by_prefix(askonce):
    fill("sqlite:///src.db")
    assert askonce("copy", "sqlite:///src.db", "file:///dst", "--prefix", "_/chat/").out == "copied 39\n"
    assert all(key.startswith("_/chat/") for key in content("file:///dst"))


def test_what_expired_or_belongs_to_the_store_itself_stays_behind(askonce):
    with open_store("sqlite:///src.db") as store:
        store.write({"a/old": packed(expires=5.0), "a/new": packed(), "~askonce/x": packed()})
    assert askonce("copy", "sqlite:///src.db", "lmdb:///dst").out == "copied 1, expired 1\n"
    assert list(content("lmdb:///dst")) == ["a/new"]


@pytest.mark.parametrize(
    ("options", "wins"),
    [([], {"a/1": "dst", "a/2": "src", "a/3": "src"}),
     (["--skip-existing"], {"a/1": "dst", "a/2": "dst", "a/3": "src"}),
     (["--overwrite"], {"a/1": "src", "a/2": "src", "a/3": "src"})],
)  # fmt: skip
def test_what_is_there_already(askonce, options, wins):
    src = {"a/1": packed(b"src", age=9), "a/2": packed(b"src"), "a/3": packed(b"src", age=9)}
    dst = {"a/1": packed(b"dst"), "a/2": packed(b"dst", age=9), "a/3": packed(b"dst", expires=4)}
    for url, entries in ("sqlite:///src.db", src), ("sqlite:///dst.db", dst):
        with open_store(url) as store:
            store.write(entries)
    result = askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", *options, "--verify")
    assert result.code == 0
    found = {key: entry.unpack(value).payload for key, value in content("sqlite:///dst.db").items()}
    assert {key: payload.decode() for key, payload in found.items()} == wins
    assert askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", *options).out.startswith("copied 0,")


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_the_epoch_of_a_tag_never_goes_back(askonce, options):
    key = "team/tag/news"
    with open_store("sqlite:///src.db") as store:
        store.write({key: packed(b"old", age=9)})
    with open_store("sqlite:///dst.db") as store:
        store.write({key: packed(b"new")})
    assert askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", *options).code == 0
    assert entry.unpack(content("sqlite:///dst.db")[key]).payload == b"new"
    assert askonce("copy", "sqlite:///dst.db", "sqlite:///src.db").out == "copied 1\n"


def damage(store):
    store.write({"a/good": packed(), "a/torn": packed(b"x" * 100)[:-8], "a/empty": b"", "a/\n": b"ASK1"})


def test_damaged_entries_are_told_and_stay_behind(askonce):
    with open_store("sqlite:///src.db") as store:
        damage(store)
        store.write({f"b/{number:02}": b"ASK1 torn" for number in range(30)})
    with open_store("sqlite:///dst.db") as store:
        store.write({"a/torn": packed(b"good")})
    result = askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", "--report", "report")
    assert (result.code, result.out) == (2, "copied 1, with problems 33\n")
    assert "a/torn: a part of it is missing" in result.err
    assert "a/\\n: a part of it is missing" in result.err
    assert result.err.endswith("and more; --report FILE writes all of them to a file\n")
    assert len(list(map(json.loads, Path("report").read_text().splitlines()))) == 33
    assert set(content("sqlite:///dst.db")) == {"a/good", "a/torn"}
    assert entry.unpack(content("sqlite:///dst.db")["a/torn"]).payload == b"good"


def test_damage_in_the_target_is_replaced(askonce):
    value = packed()
    with open_store("sqlite:///src.db") as store:
        store.write({"a/1": value})
    with open_store("sqlite:///dst.db") as store:
        store.write({"a/1": value[:-8] + b"12345678"})
    assert askonce("copy", "sqlite:///src.db", "sqlite:///dst.db", "--skip-existing").code == 0
    assert content("sqlite:///dst.db") == {"a/1": value}


def test_what_the_target_does_not_take(askonce):
    with open_store("sqlite:///src.db") as store:
        store.write({"a/1": packed(), "b" * 600: packed(), "c/1": packed()})
    result = askonce("copy", "sqlite:///src.db", "lmdb:///dst")
    assert (result.code, result.out) == (2, "copied 2, with problems 1\n")
    assert "the store does not take it: LMDB keys have 1 to 511 bytes" in result.err


@pytest.mark.parametrize("dst", ["sqlite:///src.db", "file:///./src.db", "lmdb:///src.db/below"])
def test_does_not_write_into_what_it_reads(askonce, dst):
    fill("sqlite:///src.db")
    assert "only read" in askonce("copy", "sqlite:///src.db", dst).error


def test_a_source_that_is_not_there(askonce, tmp_path):
    for command in (["copy", "sqlite:///src.db", "sqlite:///dst.db"], ["export", "file:///src", "x"]):
        assert "there is no store at" in askonce(*command).error
    assert "there is no file" in askonce("import", "x", "sqlite:///dst.db").error
    assert not list(tmp_path.iterdir())


def test_options_that_exclude_each_other(askonce):
    fill("sqlite:///src.db")
    result = askonce("copy", "sqlite:///src.db", "file:///dst", "--overwrite", "--skip-existing")
    assert "exclude each other" in result.error


class Forgetful(MemoryStore):
    def write(self, entries, *, expires=math.inf):
        kept = {key: value for key, value in entries.items() if not key.endswith("7")}
        super().write(kept | {key: b"other" for key in entries if key.endswith("3")})


def test_verify_finds_what_got_lost():
    source, target = MemoryStore(), Forgetful()
    source.write({f"a/{number}": packed() for number in range(100)})
    told = []
    work = transfer.Transfer(target, verify=True, tell=told.append)
    outcome = transfer.copy(source, work)
    assert (outcome.copied, outcome.problems) == (80, 20)
    assert {problem.key[-1] for problem in told} == {"3", "7"}


class Shaky(MemoryStore):
    """Fail at every other verb."""

    def __init__(self):
        super().__init__()
        self.turns = 0

    def _fail(self):
        self.turns += 1
        if self.turns % 2:
            raise StoreError("it is not well")

    def read(self, keys):
        self._fail()
        return super().read(keys)

    def write(self, entries, *, expires=math.inf):
        self._fail()
        super().write(entries, expires=expires)


def test_a_moment_of_trouble_is_waited_out():
    source, target = Shaky(), Shaky()
    MemoryStore.write(source, {f"a/{number}": packed() for number in range(300)})
    assert transfer.copy(source, target).copied == 300
    assert target._entries == source._entries


def test_a_target_that_fails_ends_the_copy():
    class Dead(MemoryStore):
        def write(self, entries, *, expires=math.inf):
            raise StoreError("the disk is full")

    source = MemoryStore()
    source.write({f"a/{number}": packed() for number in range(300)})
    with pytest.raises(StoreError, match="disk is full"):
        transfer.copy(source, Dead())


def test_control_c(askonce, monkeypatch):
    def interrupt(self, pairs):
        raise KeyboardInterrupt

    fill("sqlite:///src.db")
    monkeypatch.setattr(transfer.Transfer, "put", interrupt)
    result = askonce("copy", "sqlite:///src.db", "sqlite:///dst.db")
    assert (result.code, result.out) == (130, "copied 0\n")
    assert "run the command again to go on" in result.err


# Killed and begun again


SLOW = """
import os, signal, sys
from askonce import transfer
from askonce.cli import main
transfer._MOST = transfer._FIRST = 50
put, left = transfer.Transfer.put, [int(sys.argv[1])]
def slow(self, pairs):
    put(self, pairs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
transfer.Transfer.put = slow
sys.exit(main(sys.argv[2:]))
"""


def killed(batches, *command):
    done = subprocess.run(
        [sys.executable, "-c", SLOW, str(batches), *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize("dst", PLACES)
def test_killed_again_and_again_it_goes_on(askonce, dst):
    fill("sqlite:///src.db")
    dst = dst.format("dst")
    for batches in (1, 3):
        killed(batches, "copy", "sqlite:///src.db", dst)
    assert 150 <= len(content(dst)) < 292
    result = askonce("copy", "sqlite:///src.db", dst)
    assert result.out == f"copied {292 - 150}, already there 150\n"
    assert content(dst) == content("sqlite:///src.db")


def test_a_killed_import_goes_on(askonce):
    fill("sqlite:///src.db")
    assert askonce("export", "sqlite:///src.db", "x.parquet").code == 0
    killed(1, "import", "x.parquet", "sqlite:///dst.db")
    assert askonce("import", "x.parquet", "sqlite:///dst.db").code == 0
    assert content("sqlite:///dst.db") == content("sqlite:///src.db")


KILLED_EXPORT = """
import os, signal, sys
from askonce import archive
from askonce.cli import main
archive._GROUP_ROWS = 100
add, left = archive._Writer.add, [250]
def count(self, key, value):
    add(self, key, value)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
archive._Writer.add = count
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_export_leaves_no_file(askonce, tmp_path):
    fill("sqlite:///src.db")
    command = [sys.executable, "-c", KILLED_EXPORT, "export", "sqlite:///src.db", "x.parquet"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=env, timeout=60).returncode == -9
    assert not Path("x.parquet").exists()
    (left,) = tmp_path.glob(".x.parquet.*.part")
    assert askonce("export", "sqlite:///src.db", "x.parquet").code == 0
    assert left.exists()  # its writer might be alive
    os.utime(left, (1.0, 1.0))
    assert askonce("export", "sqlite:///src.db", "x.parquet", "--overwrite").code == 0
    assert not left.exists()


# Files


@pytest.mark.parametrize("src", PLACES)
def test_export_and_import_keep_every_byte(askonce, src):
    fill(src.format("src"))
    result = askonce("export", src.format("src"), "x.parquet")
    assert (result.code, result.out, result.err) == (0, "exported 292\n", "")
    result = askonce("import", "x.parquet", "lmdb:///dst", "--verify")
    assert (result.code, result.out, result.err) == (0, "imported 292\n", "")
    assert content("lmdb:///dst") == content(src.format("src"))
    assert askonce("import", "x.parquet", "lmdb:///dst").out == "imported 0, already there 292\n"


def test_a_file_is_not_written_over_unless_asked_for(askonce):
    fill("sqlite:///src.db")
    Path("x").write_text("precious")
    assert "there is a file x already" in askonce("export", "sqlite:///src.db", "x").error
    assert Path("x").read_text() == "precious"
    assert askonce("export", "sqlite:///src.db", "x", "--overwrite").code == 0
    Path("folder").mkdir()
    assert "is a folder" in askonce("export", "sqlite:///src.db", "folder").error


def test_damaged_entries_are_not_exported(askonce):
    with open_store("sqlite:///src.db") as store:
        damage(store)
        store.write({"a/old": packed(expires=5.0)})
    result = askonce("export", "sqlite:///src.db", "x")
    assert (result.code, result.out) == (2, "exported 1, expired 1, with problems 3\n")
    assert archive.count_of(Path("x")) == 1


def test_a_key_that_is_no_text_is_told(askonce):
    with open_store("lmdb:///src") as store:
        store.write({"a/\ud800": packed(), "a/1": packed()})
    result = askonce("export", "lmdb:///src", "x")
    assert (result.code, result.out) == (2, "exported 1, with problems 1\n")
    assert "a/\\ud800: its key is no text" in result.err


def test_a_file_of_a_newer_format_is_refused(askonce):
    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x")
    found = parquet.read_table("x")
    parquet.write_table(found.replace_schema_metadata({"askonce:format": "2"}), "y")
    result = askonce("import", "y", "sqlite:///dst.db")
    assert result.code == 1
    assert "format 2, which a newer askonce wrote, and this one knows format 1" in result.error
    assert not Path("dst.db").exists()


def write(path, **columns):
    parquet.write_table(arrow.table(columns), path)


def test_files_that_are_no_exports(askonce):
    Path("text").write_text("no Parquet")
    write("other", id=[1, 2])
    write("numbers", key=["a"], value=[1.0])
    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x")
    Path("cut").write_bytes(Path("x").read_bytes()[:-1000])
    for name, said in [
        ("text", "no whole Parquet file"),
        ("cut", "no whole Parquet file"),
        ("other", "no column 'key' of texts"),
        ("numbers", "no column 'value' of bytes"),
    ]:
        assert said in askonce("import", name, "sqlite:///dst.db").error
    assert not Path("dst.db").exists()


def test_damage_in_a_file_is_found(askonce):
    with open_store("sqlite:///src.db") as store:
        store.write({f"a/{number}": b"foreign " + os.urandom(2000) for number in range(2000)})
    askonce("export", "sqlite:///src.db", "x")
    whole = bytearray(Path("x").read_bytes())
    whole[len(whole) // 2] ^= 1
    Path("x").write_bytes(whole)
    result = askonce("import", "x", "sqlite:///dst.db")
    assert result.code == 1
    assert "x is damaged after" in result.err
    assert content("sqlite:///dst.db").items() <= content("sqlite:///src.db").items()


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_files_of_other_programs(askonce, kind):
    binary = {"string": "binary", "large_string": "large_binary", "string_view": "binary_view"}[kind]
    value = packed()
    write(
        "x",
        value=arrow.array([value, None, b"[1.0]"], getattr(arrow, binary)()),
        key=arrow.array(["a/1", "a/2", "a/3"], getattr(arrow, kind)()),
    )
    assert askonce("import", "x", "sqlite:///dst.db").out == "imported 2\n"
    assert content("sqlite:///dst.db") == {"a/1": value, "a/3": b"[1.0]"}


def test_other_programs_read_the_file(askonce):
    import duckdb
    import polars

    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x.parquet")
    rows = duckdb.sql("SELECT key, value FROM 'x.parquet'").fetchall()
    assert dict(rows) == content("sqlite:///src.db")
    frame = polars.read_parquet("x.parquet")
    assert dict(frame.select("key", "value").rows()) == dict(rows)
    assert frame["expires"].null_count() == 253
    assert frame["created"].null_count() == 1
    duckdb.sql("COPY (SELECT * FROM 'x.parquet' WHERE key LIKE '_/chat/%') TO 'y.parquet'")
    assert askonce("import", "y.parquet", "sqlite:///dst.db").out == "imported 39\n"


def test_odd_times_are_no_dates(askonce):
    ends = [math.inf, 1e300, 3e11, math.nan]
    made = [-1.0, 0.0, math.nan, 1e300]
    with open_store("sqlite:///src.db") as store:
        for number, (created, end) in enumerate(zip(made, ends, strict=True)):
            store.write({f"a/{number}": entry.pack(entry.Entry(b"{}", 16, created, end))})
    assert askonce("export", "sqlite:///src.db", "x").code == 0
    assert parquet.read_table("x")["expires"].to_pylist() == [None] * 4
    assert askonce("import", "x", "sqlite:///dst.db", "--verify").code == 0
    assert content("sqlite:///dst.db") == content("sqlite:///src.db")


@pytest.mark.parametrize("command", ["copy", "export", "import"])
def test_on_a_terminal_there_is_a_bar(askonce, monkeypatch, command):
    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    arguments = {
        "copy": ["sqlite:///src.db", "file:///dst"],
        "export": ["sqlite:///src.db", "y"],
        "import": ["x", "file:///dst"],
    }[command]
    result = askonce(command, *arguments)
    assert result.code == 0
    assert f"{command}ing" in result.err


def test_a_server_is_given_time(postgres, table):
    """Only a URL that does not say otherwise waits longer than a cache would."""
    from askonce.stores import patient

    assert patient(postgres.url(table=table)).endswith(f"table={table}&lookup_timeout=5&timeout=5")
    assert patient("redis://host?lookup_timeout=1") == "redis://host?lookup_timeout=1&timeout=5"
    assert patient("sqlite:///x.db") == "sqlite:///x.db"
    assert patient("elsewhere://x") == "elsewhere://x"
    with PostgresStore(postgres.url(), table=table, **PATIENT) as store:
        assert store.read(["a/1"]) == [None]
