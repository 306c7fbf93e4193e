import copy
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from askonce.errors import InputError
from askonce.wire import sse
from askonce.wire.sse import Event, Parser, parse
from tests.wire.transcripts import STREAMS

PIECES = st.sampled_from(
    [b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"event: e", b"id: 7", b"retry: 5", b"x", b"\xff"]
    + ["é".encode(), b"\xef\xbb\xbf", b"data: {}", b": note", b"\0"]
)
BYTES = st.lists(PIECES, max_size=30).map(b"".join)


def fed(pieces):
    parser = Parser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish(), parser.rest


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_every_cut_gives_the_same_events(stream):
    content = stream.content
    events, rest = fed([content])
    assert b"".join(event.raw for event in events) + rest == content
    ends = [0, *itertools.accumulate(len(event.raw) for event in events)]
    parser, seen = Parser(), []
    for place in range(len(content)):
        # Two events on, the parser knows nothing of the cut any more.
        after = min(len(seen) + 2, len(events))
        found = copy.deepcopy(parser).feed(content[place : ends[after]])
        assert found == events[len(seen) : after]
        seen += parser.feed(content[place : place + 1])
    assert seen + parser.finish() == events
    assert parser.rest == rest
    for place in range(0, len(content), 61):
        assert fed([content[:place], content[place:]]) == (events, rest)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_the_kind_of_line_end_does_not_matter(stream, end):
    lines = stream.content.replace(b"\r\n", b"\n").split(b"\n")
    found = [(event.name, event.data) for event in parse(end.join(lines))]
    assert found == [(event.name, event.data) for event in parse(b"\n".join(lines))]


@given(BYTES, st.lists(st.integers(0, 200)))
@example(b"data: a\r\r\ndata: b\r\n\r", [9])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_any_bytes_in_any_pieces(content, places):
    cuts = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    pieces = [content[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
    events, rest = fed(pieces)
    assert (events, rest) == fed([content])
    assert b"".join(event.raw for event in events) + rest == content


def test_the_fields_of_an_event():
    (event,) = parse(
        b"\xef\xbb\xbf: hello\nevent: note\nid:1\nretry: 30\ndata: a\ndata\ndata:  b\n\n"
    )
    assert event.name == "note"
    assert event.data == b"a\n\n b"
    assert event.id == "1"
    assert event.retry == 30
    assert event.comments == ("hello",)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b": ping\n\n", None),
        (b"\n", None),
        (b"event: alone\n\n", None),
        (b"data\n\n", b""),
        (b"data:\n\n", b""),
        (b"data:: a\n\n", b": a"),
        (b"DATA: a\n\n", None),
        (b" data: a\n\n", None),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", None),
    ],
)
def test_what_a_block_says(block, expected):
    (event,) = parse(block)
    assert event.data == expected
    assert event.raw == block


def test_odd_ids_and_retries_are_passed_over():
    (event,) = parse(b"id: a\0b\nretry: -1\nretry: 1.5\nretry: \ndata: x\n\n")
    assert event.id is None
    assert event.retry is None


@pytest.mark.parametrize("cut", [b"data: a", b"data: a\n", b"data: a\r", b"data: a\r\n"])
def test_a_block_without_its_blank_line_is_no_event(cut):
    assert fed([cut]) == ([], cut)


def test_an_event_comes_as_soon_as_its_blank_line():
    parser = Parser()
    assert parser.feed(b"data: a\n") == []
    assert [event.data for event in parser.feed(b"\n")] == [b"a"]
    assert parser.feed(b"data: b\r\n\r") == []
    assert [event.data for event in parser.feed(b"\n")] == [b"b"]


def test_a_long_line_in_many_pieces():
    parser = Parser()
    parser.feed(b"data: ")
    for _ in range(20_000):
        parser.feed(b"x" * 100)
    (event,) = parser.feed(b"\n\n")
    assert event.data == b"x" * 2_000_000


@given(
    st.binary(max_size=60).filter(lambda data: b"\r" not in data),
    st.text(max_size=9).filter(lambda name: not set(name) & set("\r\n\0") and name[:1] != " "),
)
def test_what_is_written_is_read_back(data, name):
    try:
        event = Event.of(data, name)
    except UnicodeEncodeError:
        return
    assert parse(event.raw) == [event]


def test_writing_all_fields():
    raw = sse.write(b"a\nb", "e", id="7", retry=3)
    assert raw == b"event: e\nid: 7\nretry: 3\ndata: a\ndata: b\n\n"


@pytest.mark.parametrize(("data", "name"), [(b"a\rb", ""), (b"a", "x\ny"), (b"a", "x\0")])
def test_what_cannot_be_written(data, name):
    with pytest.raises(InputError):
        sse.write(data, name)
