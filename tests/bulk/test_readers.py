"""Reading: every kind of file, and what is wrong with it."""

import csv
import io
import json
import os
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError
from askonce.bulk import Corpus, passages
from askonce.bulk.passages import Passage, Reading, Refused


def read(*inputs, stdin=b"", stdin_suffix=".txt", **reading):
    corpus = Corpus.of(
        list(map(str, inputs)),
        Reading(**reading),
        stdin=io.BytesIO(stdin),
        stdin_suffix=stdin_suffix,
    )
    try:
        rows = list(corpus.rows())
        assert list(corpus.rows()) == rows, "a second reading is the same"
        return rows
    finally:
        corpus.close()


def texts(rows):
    return [row.text if isinstance(row, Passage) else row.reason for row in rows]


def write_jsonl(path, values):
    path.write_text("".join(json.dumps({"text": value}) + "\n" for value in values))


def write_csv(path, values):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["n", "text"], *enumerate(values)])


def write_parquet(path, values):
    pq.write_table(pa.table({"text": values}), path, row_group_size=2)


WRITERS = {".jsonl": write_jsonl, ".csv": write_csv, ".parquet": write_parquet}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


@pytest.mark.parametrize("suffix", WRITERS)
@given(values=st.lists(TEXT.filter(lambda text: text.strip()), min_size=1, max_size=8))
def test_what_is_written_is_read(suffix, values, tmp_path_factory):
    path = tmp_path_factory.mktemp("read") / f"corpus{suffix}"
    WRITERS[suffix](path, values)
    rows = read(path)
    assert [row.text for row in rows] == values
    assert [row.id for row in rows] == [f"{path.name}:{n}" for n in range(1, len(values) + 1)]


@given(lines=st.lists(TEXT.filter(lambda text: not set(text) & {"\n", "\r"})))
def test_lines_of_text(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("read") / "corpus.txt"
    path.write_text("\n".join(lines), newline="")
    found = {row.row: row.text for row in read(path) if isinstance(row, Passage)}
    assert found == {number: line for number, line in enumerate(lines, 1) if line.strip()}


def test_paragraphs(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n\none\r\nstill one\r\n \t\r\ntwo\n\n\n\nthree")
    rows = read(path, split="paragraph")
    assert texts(rows) == ["one\r\nstill one", "two", "three"]
    assert [row.id for row in rows] == ["a.txt:3", "a.txt:6", "a.txt:10"]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv"])
def test_a_byte_order_mark_is_no_text(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    content = {".txt": "one\n", ".jsonl": '{"text": "one"}\n', ".csv": "text\none\n"}[suffix]
    path.write_text(content, encoding="utf-8-sig")
    assert texts(read(path)) == ["one"]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv"])
def test_utf_16_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("text\none\n", encoding="utf-16")
    with pytest.raises(InputError, match=f"a{suffix} is UTF-16; convert"):
        read(path)


def test_what_is_not_utf8_fails_by_itself(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\xfe two\nthree")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "one"}\n{"text": "\xff"}\n{"text": "three"}')
    (tmp_path / "c.csv").write_bytes(b'text,x\none,1\n"\xff",2\nthree,3\n')
    binary = pa.array([b"one", b"\xff", b"three"])
    pq.write_table(pa.table({"text": binary}), tmp_path / "d.parquet")
    string = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"text": string}), tmp_path / "e.parquet")
    rows = read(tmp_path)
    refused = [row for row in rows if isinstance(row, Refused)]
    assert [(row.file, row.row) for row in refused] == [
        ("a.txt", 2), ("b.jsonl", 2), ("c.csv", 2), ("d.parquet", 2), ("e.parquet", 2)
    ]  # fmt: skip
    assert all("UTF-8" in row.reason for row in refused)
    assert texts(row for row in rows if isinstance(row, Passage)) == ["one", "three"] * 5


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_null_empty_and_blank_fail_by_themselves(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path, ["one", None, "", " \n", "five"])
    assert texts(read(path)) == [
        "one", "'text' is null, not a text", "the text is empty", "the text is empty", "five"
    ]  # fmt: skip


def test_mixed_types_fail_by_themselves(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = ['{"text": "one"}', '{"text": 2}', "[3]", '{"text": ["4"]}', '{"text": {"a": 5}}']
    lines += ['{"texts": "6"}', '{"text": true}', '{"text": "8', "", '{"text": "ten"}']
    path.write_text("\n".join(lines))
    found = texts(read(path))
    assert found[0] == "one"
    assert found[1:7] == [
        "'text' is a number, not a text",
        "the line is JSON, but no object",
        "'text' is a list, not a text",
        "'text' is an object, not a text",
        "the object has no 'text'",
        "'text' is a boolean, not a text",
    ]
    assert "not JSON" in found[7]
    assert found[8:] == ["ten"]


def test_a_lone_surrogate_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud800"}\n{"text": "two"}')
    first, second = read(tmp_path / "a.jsonl")
    assert isinstance(first, Refused)
    assert second.text == "two"


def test_rows_of_a_table_that_are_too_short(tmp_path):
    (tmp_path / "a.csv").write_text("n,text\n1,one\n2\n\n3,three\n")
    assert texts(read(tmp_path / "a.csv")) == ["one", "the row has 1 of 2 fields", "three"]


def test_ids(tmp_path):
    values = {"text": ["a", "b", "c", "d"], "key": ["x", None, "", "z"]}
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", id_column="key")
    assert [row.id for row in rows] == ["x", "a.parquet:2", "a.parquet:3", "z"]
    assert texts(rows)[1:3] == ["'key' is null, no id", "'key' is empty, no id"]
    (tmp_path / "b.jsonl").write_text('{"text": "a", "key": 7}\n{"text": "b", "key": true}')
    rows = read(tmp_path / "b.jsonl", id_column="key")
    assert [row.id for row in rows] == ["7", "b.jsonl:2"]
    (tmp_path / "c.csv").write_text("key,text\nk1,one\n")
    assert read(tmp_path / "c.csv", id_column="key")[0].id == "k1"


def test_text_and_id_may_be_one_column(tmp_path):
    for suffix, write in WRITERS.items():
        write(tmp_path / f"a{suffix}", ["one"])
        (row,) = read(tmp_path / f"a{suffix}", id_column="text")
        assert (row.id, row.text) == ("one", "one")


def test_plain_text_has_no_ids(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(InputError, match=r"a\.txt is plain text.*leave --id out"):
        read(tmp_path / "a.txt", id_column="key")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("option", [{"column": "body"}, {"id_column": "body"}])
def test_a_column_that_is_not_there(tmp_path, suffix, option):
    WRITERS[suffix](tmp_path / f"a{suffix}", ["one", "two"])
    with pytest.raises(InputError) as error:
        read(tmp_path / f"a{suffix}", **option)
    message = str(error.value)
    assert f"a{suffix}, row 1: there is no column 'body'" in message
    assert f"give --{'column' if 'column' in option else 'id'} one of" in message
    assert "'text'" in message


def test_a_column_of_numbers(tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="'text' is of type int64, not text; give --column"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_all_ways_to_keep_text(tmp_path, kind):
    table = pa.table({"text": pa.array(["one", None, "one"]).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts(read(tmp_path / "a.parquet")) == ["one", "'text' is null, not a text", "one"]


def test_a_truncated_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, [f"text {number}" for number in range(1000)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"a\.parquet, after row 0: not a whole Parquet file"):
        read(path)
    path.write_bytes(whole[:50] + bytes(2000) + whole[2050:])
    with pytest.raises(InputError, match=r"a\.parquet, after row \d+: not a whole Parquet file"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read(path)


def test_an_open_quote(tmp_path):
    (tmp_path / "a.csv").write_text('n,text\n1,one\n2,"two\n3,three\n')
    with pytest.raises(InputError, match=r"a\.csv, row 2, up to line 4: .*look for a quote"):
        read(tmp_path / "a.csv")


def test_an_empty_table(tmp_path):
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(InputError, match=r"a\.csv, row 1: there is no column 'text'.*one of none"):
        read(tmp_path / "a.csv")


@pytest.fixture
def short(monkeypatch):
    """Let lines be too long sooner."""
    for module in ("passages", "lines", "tables"):
        monkeypatch.setattr(f"askonce.bulk.{module}.LONGEST", 1000)
    monkeypatch.setattr("askonce.bulk.lines._SKIPPED_AT_ONCE", 300)


def test_a_line_that_is_too_long_fails_by_itself(tmp_path, short):
    for length in (1000, 1001, 1100, 1300, 1301, 5000):
        long = "x" * (length - 1) + "\n"
        (tmp_path / "a.txt").write_text(f"one\n{long}three\n")
        first, second, third = read(tmp_path / "a.txt")
        assert (first.text, third.text, third.row) == ("one", "three", 3)
        assert isinstance(second, Refused) == (length > 1000), length
        if length > 1000:
            assert second.reason == passages.TOO_LONG
    (tmp_path / "b.jsonl").write_text(json.dumps([{"text": "one"}] * 1000))
    (row,) = read(tmp_path / "b.jsonl")
    assert row.row == 1
    assert "one object a line" in row.reason


def test_a_paragraph_that_is_too_long_fails_by_itself(tmp_path, short):
    (tmp_path / "a.txt").write_text("one\n\n" + "two\n" * 400 + "\nthree\n\n" + "x" * 3000)
    rows = read(tmp_path / "a.txt", split="paragraph")
    assert texts(rows) == ["one", passages.TOO_LONG, "three", passages.TOO_LONG]
    assert [row.row for row in rows] == [1, 3, 404, 406]


def test_a_line_of_a_table_that_is_too_long(tmp_path, short):
    (tmp_path / "a.csv").write_text("text\none\n" + "x" * 2000)
    with pytest.raises(InputError, match=r"a\.csv, line 3: the line is longer than"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('text\none\n"' + "x\n" * 2000 + '"')
    with pytest.raises(InputError, match=r"a\.csv, row 2, up to line \d+: field larger than"):
        read(tmp_path / "a.csv")


def test_folders_by_suffix_in_order(tmp_path):
    for name in ("b/z.txt", "b/a.TXT", "a.txt", "c.md", ".hidden/a.txt", "b/.hidden.txt", "c.d/x.txt"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    rows = read(tmp_path / "corpus")
    assert [(row.id, row.text) for row in rows] == [
        (f"{name}:1", name) for name in ("a.txt", "b/a.TXT", "b/z.txt", "c.d/x.txt")
    ]


def test_files_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("x", "y"):
        os.mkdir(folder)
        (tmp_path / folder / "a.txt").write_text(folder)
    assert [row.id for row in read("x", "y/a.txt")] == ["x/a.txt:1", "y/a.txt:1"]
    assert [row.id for row in read("y/a.txt")] == ["a.txt:1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing.txt", "there is nothing at nothing.txt"),
        ("a.md", r"a\.md is none of \.txt, \.jsonl, \.csv, \.parquet; rename or convert"),
        ("folder", r"the folder folder holds none of \.txt"),
    ],
)
def test_inputs_that_are_none(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        read(given)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "a.txt").chmod(stat.S_IWUSR)
    monkeypatch.setattr("pathlib.Path.open", refuse)  # root may read anything
    with pytest.raises(InputError, match=r"a\.txt cannot be read: Permission denied; check"):
        read(tmp_path / "a.txt")


def test_standard_input():
    assert [row.id for row in read("-", stdin=b"one\ntwo")] == ["stdin:1", "stdin:2"]
    rows = read("-", stdin=b'{"text": "one"}', stdin_suffix=".jsonl")
    assert texts(rows) == ["one"]
    assert texts(read("-", stdin=b"text\none", stdin_suffix=".csv")) == ["one"]
