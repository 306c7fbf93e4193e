import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core import codecs, entry
from askonce.core.entry import Entry, pack, unpack

metas = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)
entries = st.builds(
    Entry,
    payload=st.binary(max_size=60),
    codec=st.integers(0, 255),
    created=st.floats(allow_nan=False),
    expires=st.floats(allow_nan=False),
    binding=st.integers(0, 2**64 - 1),
    meta=metas,
)
EXAMPLE = Entry(
    b"hello, world", codecs.JSON, created=1.5, expires=math.inf, binding=0x0102, meta={"model": "é"}
)


@given(entries)
def test_an_entry_comes_back_as_it_was(one):
    blob = pack(one)
    assert unpack(blob) == one
    assert len(blob) % 8 == 0


def test_the_bytes_of_an_entry_stay_as_they_are():
    """Pins the stored format: a change here must come with a new magic."""
    assert pack(EXAMPLE).hex(" ", 8).split() == [
        "41534b3110000000",  # magic, codec, zeros
        "000000000000f83f",  # created
        "000000000000f07f",  # expires
        "0201000000000000",  # binding
        "0f0000000c000000",  # lengths of metadata and payload
        "ecc0f4cc0334e915",  # checksum
        *("7b226d6f64656c22", "3a2022c3a9227d00"),  # metadata
        *("68656c6c6f2c2077", "6f726c6400000000"),  # payload
    ]


@pytest.mark.parametrize("one", [EXAMPLE, Entry(b"", 0, 0.0), Entry(b"\0" * 8, 1, 0.0)])
def test_no_flipped_bit_goes_unnoticed(one):
    blob = pack(one)
    for place in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[place // 8] ^= 1 << place % 8
        assert unpack(bytes(damaged)) is None, place


@pytest.mark.parametrize("one", [EXAMPLE, Entry(b"", 0, 0.0), Entry(b"\0" * 8, 1, 0.0)])
def test_no_cut_and_no_addition_goes_unnoticed(one):
    blob = pack(one)
    for length in range(len(blob)):
        assert unpack(blob[:length]) is None, length
        assert unpack(blob[length + 1 :]) is None, length
    for length in range(1, 70):
        assert unpack(blob + bytes(length)) is None, length
    assert unpack(blob + blob) is None


@given(entries, st.data())
def test_no_swapped_or_zeroed_words_go_unnoticed(one, data):
    blob = pack(one)
    words = [blob[start : start + 8] for start in range(0, len(blob), 8)]
    first, second = data.draw(st.tuples(*[st.integers(0, len(words) - 1)] * 2))
    words[first], words[second] = words[second], words[first]
    if (swapped := b"".join(words)) != blob:
        assert unpack(swapped) is None
    words[first] = bytes(8)
    if (zeroed := b"".join(words)) != blob:
        assert unpack(zeroed) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_none(blob):
    assert unpack(blob) is None
    assert unpack(entry.MAGIC + blob) is None


@given(st.integers(0, 5), st.integers(1, 40), st.integers(0, 255), st.floats(0, 1e10), st.randoms())
def test_rows_are_packed_like_single_entries(count, length, codec, created, chance):
    rows = np.array(
        [[chance.randrange(256) for _ in range(length)] for _ in range(count)], np.uint8
    ).reshape(count, length)
    bindings = np.array([chance.randrange(2**64) for _ in range(count)], np.uint64)
    blobs = entry.pack_rows(
        rows, codec=codec, created=created, expires=created + 1, bindings=bindings
    )
    assert blobs == [
        pack(Entry(row.tobytes(), codec, created, created + 1, int(binding)))
        for row, binding in zip(rows, bindings, strict=True)
    ]
    if blobs:
        whole = np.frombuffer(b"".join(blobs), np.uint8).reshape(count, -1)
        assert entry.undamaged(whole).all()
        assert entry.kinds_of(whole) == [(codec, length, slice(None))]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 7, 16]), st.integers(9, 17)), min_size=1))
def test_kinds_are_told_apart_in_their_order(wanted):
    blobs = [
        pack(Entry(bytes(length), codec, 0.0))
        if length < 17
        else pack(Entry(bytes(8), codec, 0.0, meta={"": 1}))
        for codec, length in wanted
    ]
    found = entry.kinds_of(np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), -1))
    told = [(codec, length) for codec, length, _ in found]
    assert told == sorted(kind for kind in set(wanted) if kind[1] < 17)
    for codec, length, rows in found:
        places = [place for place, kind in enumerate(wanted) if kind == (codec, length)]
        assert np.arange(len(blobs))[rows].tolist() == places


def test_metadata_must_be_json():
    with pytest.raises(ValueError):
        pack(Entry(b"", 0, 0.0, meta={"a": math.nan}))
    with pytest.raises(TypeError):
        pack(Entry(b"", 0, 0.0, meta={"a": object()}))


def test_the_checksum_does_not_depend_on_the_batch_it_is_taken_in():
    words = np.arange(60, dtype=np.uint64).reshape(3, 20)
    one_by_one = [int(entry.checksum(row[None, :])[0]) for row in words]
    assert entry.checksum(words).tolist() == one_by_one


def test_a_binding_is_the_start_of_a_digest():
    assert entry.binding_of(bytes(range(32))) == 0x0706050403020100
