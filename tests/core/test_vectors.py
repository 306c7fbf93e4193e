import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from askonce import AnswerError
from askonce.core import codecs, entry, vectors
from askonce.core.table import Table

NOW = 1000.0


def bindings_of(count):
    return np.arange(1, count + 1, dtype=np.uint64)


def pack(rows, bindings=None, expires=entry.NEVER):
    rows = np.asarray(rows)
    bindings = bindings_of(len(rows)) if bindings is None else bindings
    return vectors.pack(rows, bindings, created=0.0, expires=expires)


def table(count, dimensions=None):
    return Table(bindings_of(count), dimensions=dimensions, now=NOW)


def exactly(one, other):
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
finite64 = st.floats(allow_nan=False, allow_infinity=False)
finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, shapes, elements=finite32))
def test_float32_comes_back_to_the_last_bit(rows):
    filled = table(len(rows))
    filled.put(np.arange(len(rows)), pack(rows))
    assert exactly(filled.take(np.arange(len(rows))), rows)


@given(hnp.arrays(np.float64, shapes, elements=st.one_of(finite64, finite32)))
def test_float64_comes_back_to_the_last_bit_and_narrow_rows_take_half(rows):
    blobs = pack(rows)
    filled = table(len(rows))
    filled.put(np.arange(len(rows)), blobs)
    found = filled.take(np.arange(len(rows)))
    assert exactly(found.astype(np.float64), rows)
    for row, blob in zip(rows, blobs, strict=True):
        with np.errstate(over="ignore"):
            narrow = (row.astype(np.float32) == row).all()
        size = 4 if narrow else 8
        assert len(blob) == entry.HEADER_LENGTH + (len(row) * size + 7) // 8 * 8


def test_what_float32_cannot_hold_is_told_row_by_row():
    rows = np.array([[1.0, 0.5], [0.1, 1.0], [1e300, 0.0], [-0.0, 2.0**-149], [2.0**-150, 0.0]])
    assert codecs.fits_float32(rows).tolist() == [True, False, False, True, False]
    assert codecs.fits_float32(rows[:2].astype(np.float32)).all()


@given(st.permutations(range(6)), st.data())
def test_rows_may_arrive_in_any_order_and_in_parts(order, data):
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    blobs = pack(rows)
    filled = table(6)
    cut = data.draw(st.integers(0, 6))
    for part in (order[:cut], order[cut:]):
        filled.put(np.array(part, np.intp), [blobs[place] for place in part])
    assert filled.good.all()
    positions = data.draw(st.lists(st.integers(0, 5), max_size=9))
    assert exactly(filled.take(np.array(positions, np.intp)), rows[positions])


@given(st.permutations(range(5)), st.sets(st.integers(0, 4)))
def test_wide_and_narrow_rows_mix(order, wide):
    rows = np.arange(10, dtype=np.float64).reshape(5, 2)
    rows[sorted(wide)] += 0.1
    blobs = pack(rows)
    filled = table(5)
    filled.put(np.array(order, np.intp), [blobs[place] for place in order])
    assert filled.take(np.arange(5)).tolist() == rows.tolist()


def test_damage_anywhere_is_a_missing_row_and_spares_the_others():
    rows = np.array([[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]], np.float32)
    first, second = pack(rows)
    for place in range(len(first) * 8):
        damaged = bytearray(first)
        damaged[place // 8] ^= 1 << place % 8
        filled = table(2)
        foreign = filled.put(np.arange(2), [bytes(damaged), second])
        assert filled.good.tolist() == [False, True]
        assert not foreign.size
    for length in range(len(first)):
        filled = table(2)
        assert not filled.put(np.arange(2), [first[:length], second]).size
        assert filled.good.tolist() == [False, True]


def one_of_many(place, sort):
    """Make entries of one length: two that are right, and everything that can be wrong."""
    payload = np.full(4, place + 1, np.float32).tobytes()
    codec, binding, created, expires, meta = codecs.FLOAT32, place + 1, NOW - 1, entry.NEVER, {}
    match sort:
        case "wide":
            payload, codec = np.full(2, place + 1.1).tobytes(), codecs.FLOAT64
        case "short":
            payload = payload[:12]
        case "unbound":
            binding = 0
        case "foreign":
            binding = 1_000_000
        case "expired":
            expires = NOW
        case "old":
            created = NOW - 10
        case "chat":
            codec = codecs.JSON
        case "unknown":
            codec = 200
        case "meta":
            payload, meta = payload[:8], {"": 1}
    blob = bytearray(entry.pack(entry.Entry(payload, codec, created, expires, binding, meta)))
    if sort == "damaged":
        blob[60] ^= 1
    if sort == "no entry":
        blob[:4] = b"ASK2"
    return bytes(blob)


SORTS = "right wide short unbound foreign expired old chat unknown meta damaged".split() + [
    "no entry"
]


@given(st.lists(st.sampled_from(SORTS), min_size=1), st.sampled_from([2, 3, 4]))
def test_entries_are_judged_alike_in_one_block_in_a_list_and_one_by_one(sorts, dimensions):
    blobs = [one_of_many(place, sort) for place, sort in enumerate(sorts)]
    assert len({len(blob) for blob in blobs}) == 1
    count = len(blobs)

    def fresh():
        return Table(bindings_of(count), dimensions=dimensions, now=NOW, since=NOW - 5)

    block, listed, single = fresh(), fresh(), fresh()
    foreign = block.put(np.arange(count), b"".join(blobs)).tolist()
    assert foreign == listed.put(np.arange(count), blobs).tolist()
    assert foreign == [
        place
        for place, blob in enumerate(blobs)
        for _ in single.put(np.array([place]), [blob]).tolist()
    ]
    places = single.good.nonzero()[0]
    for other in (block, listed):
        assert other.good.tolist() == single.good.tolist()
        if places.size:
            assert exactly(other.take(places), single.take(places))


@given(st.integers(1, 70), st.integers(1, 9))
def test_a_block_of_bytes_that_are_no_entries_holds_nothing(length, count):
    filled = table(count)
    assert not filled.put(np.arange(count), bytes(length * count)).size
    assert not filled.good.any()


def test_another_texts_entry_is_told_and_not_used():
    rows = np.ones((3, 2), np.float32)
    blobs = pack(rows, np.array([1, 99, 0], np.uint64))
    filled = table(3)
    assert filled.put(np.arange(3), blobs).tolist() == [1]
    assert filled.good.tolist() == [True, False, True]  # 0: bound to nothing


def test_an_expired_entry_is_a_missing_row():
    for expires, good in ((NOW - 1, False), (NOW, False), (NOW + 1, True), (entry.NEVER, True)):
        filled = table(1)
        assert not filled.put(np.arange(1), pack(np.ones((1, 2), np.float32), expires=expires)).size
        assert filled.good.tolist() == [good]


def test_what_is_missing_is_missing():
    filled = table(3)
    assert not filled.put(
        np.arange(3), [None, pack(np.ones((1, 2)), bindings_of(3)[1:2])[0], None]
    ).size
    assert filled.missing().tolist() == [0, 2]


@pytest.mark.parametrize(
    "odd",
    [
        entry.Entry(b"", codecs.FLOAT32, 0.0),
        entry.Entry(b"123456", codecs.FLOAT32, 0.0),
        entry.Entry(b"1234", codecs.FLOAT64, 0.0),
        entry.Entry(b"12345678", codecs.JSON, 0.0),
        entry.Entry(b"12345678", 200, 0.0),
        entry.Entry(b"12345678", codecs.FLOAT32, 0.0, meta={"a": 1}),
    ],
)
def test_a_whole_entry_that_holds_no_vector_is_a_missing_row(odd):
    rows = np.ones((2, 2), np.float32)
    filled = table(2)
    filled.put(np.arange(2), [entry.pack(odd), pack(rows)[1]])
    assert filled.good.tolist() == [False, True]
    assert filled.take(np.array([1])).tolist() == [[1.0, 1.0]]


def test_of_several_lengths_that_of_most_is_taken():
    blobs = [*pack(np.ones((1, 3))), *pack(np.ones((4, 5)))[1:3], *pack(np.ones((4, 8)))[3:]]
    unbound = [entry.pack(entry.Entry(entry.unpack(blob).payload, 1, 0.0)) for blob in blobs]
    filled = table(4)
    filled.put(np.arange(4), unbound)
    assert filled.good.tolist() == [False, True, True, False]


def test_dimensions_that_are_known_decide():
    filled = table(3, dimensions=3)
    blobs = [*pack(np.ones((1, 3))), *pack(np.ones((3, 5)))[1:]]
    assert filled.put(np.arange(3), blobs).tolist() == [1, 2]
    assert filled.good.tolist() == [True, False, False]


def test_the_models_answer_overrules_rows_of_another_length():
    filled = table(2)
    unbound = entry.pack(entry.Entry(np.ones(5, np.float32).tobytes(), codecs.FLOAT32, 0.0))
    filled.put(np.arange(2), [unbound, None])
    assert filled.good.tolist() == [True, False]
    filled.learn(3)
    assert filled.missing().tolist() == [0, 1]
    filled.put(np.arange(2), pack(np.full((2, 3), 7.0)))
    assert filled.take(np.arange(2)).tolist() == [[7.0] * 3] * 2


def test_nothing_asked_is_an_empty_array_of_the_known_width():
    assert table(0, dimensions=7).take(np.empty(0, np.intp)).shape == (0, 7)
    assert table(0).take(np.empty(0, np.intp)).shape == (0, 0)


def test_the_result_can_be_written_to_without_harm():
    blobs = pack(np.ones((2, 2), np.float32))
    filled = table(2)
    filled.put(np.arange(2), blobs)
    found = filled.take(np.arange(2))
    found[:] = 5
    again = table(2)
    again.put(np.arange(2), blobs)
    assert again.take(np.arange(2)).tolist() == [[1.0, 1.0]] * 2


@pytest.mark.parametrize(
    "answer",
    [
        [[1.0, 2.0], [3.0, 4.0]],
        [(1.0, 2.0), (3.0, 4.0)],
        [[1, 2], [3, 4]],
        [[1, 2.0], [3.0, 4]],
        ((1.0, 2.0), (3.0, 4.0)),
        iter([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], np.float16),
        np.array([[1, 2], [3, 4]], ">f8"),
        np.array([[1, 3], [2, 4]], np.float32).T,
        [np.array([1.0, 2.0]), np.array([3.0, 4.0], np.float32)],
        [[np.float32(1), np.float64(2)], [3, 4]],
    ],
)
def test_answers_of_many_types_are_taken(answer):
    rows = vectors.rows_of(answer, 2)
    assert rows.dtype in (np.float32, np.float64)
    assert rows.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    filled = table(2)
    filled.put(np.arange(2), pack(rows))
    assert filled.take(np.arange(2)).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "not a list"),
        (7, "not a list"),
        ([], "0 vectors for 2"),
        ([[1.0]], "1 vectors for 2"),
        ([[1.0]] * 3, "3 vectors for 2"),
        ([[1.0], [1.0, 2.0]], "different lengths"),
        ([[1.0, 2.0], None], "different lengths|type object"),
        ([[], []], "shape"),
        ([1.0, 2.0], "shape"),
        ([[[1.0]], [[2.0]]], "shape"),
        ([["a"], ["b"]], "type <U1"),
        ([[None], [None]], "type object"),
        ([[True], [False]], "type bool"),
        ([[1j], [2j]], "type complex"),
        ([[1.0], [float("nan")]], "text 1 of this batch of 2"),
        ([[float("inf")], [1.0]], "text 0 of this batch of 2"),
        (np.array([[1.0], [np.nan]], np.float32), "text 1"),
        ({"a": [1.0], "b": [2.0]}, "type <U1|shape"),
        ("ab", "type <U1|shape"),
        ([[10**400], [1]], "type object"),
    ],
)
def test_unusable_answers_say_why(answer, says):
    with pytest.raises(AnswerError, match=says):
        vectors.rows_of(answer, 2)


def test_rows_that_are_not_there_yet_do_not_disturb_those_that_are():
    """Rows become float64 while others hold what the memory held: signalling NaNs, say."""
    bindings = np.array([1, 2, 3], np.uint64)
    table = Table(bindings, dimensions=2, now=0.0)
    narrow = np.array([[1.5, 2.5]], np.float32)
    wide = np.array([[0.1, 0.2]], np.float64)
    table.put(np.array([0]), vectors.pack(narrow, bindings[:1], created=0.0, expires=9.0))
    table._rows[1:] = np.frombuffer(b"\x01\x00\xa0\x7f" * 4, np.float32).reshape(2, 2)
    table.put(np.array([2]), vectors.pack(wide, bindings[2:], created=0.0, expires=9.0))
    assert table.good.tolist() == [True, False, True]
    assert table.take(np.array([0, 2])).tolist() == [[1.5, 2.5], [0.1, 0.2]]


@given(hnp.arrays(np.float64, shapes, elements=st.one_of(finite64, finite32)))
def test_vectors_of_the_model_come_back_as_their_entries_do(rows):
    places = np.arange(len(rows))
    stored, filled = table(len(rows)), table(len(rows))
    stored.put(places, pack(rows))
    filled.learn(rows.shape[1])
    for part in vectors.parts_of(rows):
        filled.fill(places[part.rows], part.vectors())
    assert exactly(filled.take(places), stored.take(places))


def test_a_model_may_write_its_next_answer_over_its_last():
    answer = np.ones((3000, 200), np.float32)
    filled = table(3000)
    filled.learn(200)
    filled.fill(np.arange(3000), answer)
    answer[:] = 2
    assert (filled.take(np.arange(3000)) == 1).all()


def test_finite_numbers_may_have_a_sum_that_is_not():
    rows = np.full((2, 3), 3e38, np.float32)
    assert vectors.rows_of(rows, 2) is rows
    rows = np.full((2, 3), 1e308)
    assert vectors.rows_of(rows, 2) is rows


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_infinities_that_cancel_out_are_found(bad):
    rows = np.ones((3, 4), np.float32)
    rows[1, 2], rows[2, 1] = bad, -bad
    with pytest.raises(AnswerError, match="text 1 of this batch"):
        vectors.rows_of(rows, 3)
