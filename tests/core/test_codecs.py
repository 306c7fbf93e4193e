"""How vectors are written: what a lossy codec may lose, and when it gives way to a lossless one."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from askonce import EmbeddingCache, InputError, open_store
from askonce.core import codecs, entry, vectors
from askonce.core.table import Table

LOSSY = ["float16", "int8"]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
FINITE = {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
}


def finite_rows(dtype):
    return hnp.arrays(np.dtype(dtype), SHAPES, elements=FINITE[dtype])


def kept(rows, codec):
    """Pack rows and read them back, with the codec numbers they went by."""
    rows = np.asarray(rows)
    bindings = np.arange(1, len(rows) + 1, dtype=np.uint64)
    blobs = vectors.pack(rows, bindings, created=0.0, expires=entry.NEVER, codec=codec)
    table = Table(bindings, dimensions=None, now=0.0)
    assert not table.put(np.arange(len(rows)), blobs).size
    assert table.good.all()
    return table.take(np.arange(len(rows))), [entry.unpack(blob).codec for blob in blobs]


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("dtype", FINITE)
@given(data=st.data())
def test_what_is_lost_is_small_and_nothing_else_goes_wrong(codec, dtype, data):
    rows = data.draw(finite_rows(dtype))
    found, numbers = kept(rows, codec)
    assert found.shape == rows.shape
    assert np.isfinite(found).all()
    for row, back, number in zip(rows, found, numbers, strict=True):
        if number != codecs.LOSSY[codec]:
            assert back.tolist() == row.tolist()
            continue
        largest = np.abs(row).max()
        # Half a step: of the scale, or of the last of float16's eleven digits.
        step = largest / 127 if codec == "int8" else np.maximum(np.abs(row) / 1024, 2.0**-24)
        assert (np.abs(back - row) <= step * 0.501).all()
        assert not largest or np.abs(back).max()


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize(
    ("row", "lossless"),
    [
        ([1.0, -0.5, 0.0], False),
        ([0.0, -0.0, 0.0], False),
        ([65504.0, 1.0, -65504.0], False),
        ([2.0**-14, 2.0**-30, 0.0], False),
        ([1e38 * 1.1, 1.0, 0.0], True),
        ([1e-38, 0.0, 0.0], True),
        ([2.0**-149, 0.0, 0.0], True),
        ([1e300, 1.0, 0.0], True),
        ([1e-300, 0.0, 0.0], True),
    ],
)
def test_a_vector_that_a_lossy_codec_cannot_hold_is_kept_lossless(codec, row, lossless):
    found, (number,) = kept([row], codec)
    assert number == (codecs.choose(np.array([row]), "lossless")[0] if lossless else codecs.LOSSY[codec])
    if lossless:
        assert found[0].tolist() == row


@pytest.mark.parametrize("row", [[65520.0, 1.0], [1e5, 1.0], [6e-5, 1e-8]])
def test_float16_gives_way_beyond_its_range(row):
    found, (number,) = kept(np.array([row, [1.0, 2.0]], np.float32)[:1], "float16")
    assert number == codecs.FLOAT32
    assert found[0].tolist() == np.array(row, np.float32).tolist()
    assert kept([row], "int8")[1] == [codecs.INT8]


def test_rows_of_one_batch_may_go_by_different_codecs():
    rows = np.array([[1.0, 2.0], [1e30, 1.0], [0.5, 0.25], [0.1, 1e300]])
    found, numbers = kept(rows, "float16")
    assert numbers == [
        codecs.FLOAT16,
        codecs.FLOAT64,
        codecs.FLOAT16,
        codecs.FLOAT64,
    ]
    assert found.tolist() == rows.tolist()


def test_the_layouts_are_as_documented():
    row = np.array([[0.5, -1.0, 0.25]], np.float32)
    bindings = np.ones(1, np.uint64)
    half, small = (
        entry.unpack(
            vectors.pack(row, bindings, created=0.0, expires=entry.NEVER, codec=codec)[0]
        ).payload
        for codec in LOSSY
    )
    assert half == struct.pack("<3e", 0.5, -1.0, 0.25)
    (scale,) = struct.unpack("<f", struct.pack("<f", 1 / 127))
    assert small == struct.pack("<f3b", scale, 64, -127, 32)


def test_payloads_take_a_half_and_a_quarter():
    rows = np.random.default_rng(1).standard_normal((3, 1536), np.float32)
    assert [codecs.encode(rows, number).shape[1] for number in codecs.VECTORS] == [
        6144,
        12288,
        3072,
        1540,
    ]


@pytest.mark.parametrize("codec", codecs.VECTORS)
def test_payloads_that_hold_no_vector_have_no_dimensions(codec):
    assert codecs.dimensions(0, codec) == 0
    assert codecs.dimensions(3, codec) == 0
    rows = np.ones((2, 5))
    assert codecs.dimensions(codecs.encode(rows, codec).shape[1], codec) == 5


@pytest.mark.parametrize("codec", LOSSY)
def test_a_hit_equals_the_miss_that_made_it(codec):
    rows = np.random.default_rng(2).standard_normal((50, 64), np.float32)
    rows[7] *= 1e38
    rows[9] = 0
    texts = [str(number) for number in range(50)]
    asked = []

    def embed(some):
        asked.extend(some)
        return rows[[int(text) for text in some]]

    cache = EmbeddingCache(embed, model="m", store="memory://", codec=codec)
    missed = cache.embed(texts)
    assert cache.embed(texts).tobytes() == missed.tobytes()
    assert len(asked) == 50
    assert missed.tobytes() != rows.tobytes()
    np.testing.assert_array_equal(missed[[7, 9]], rows[[7, 9]])
    np.testing.assert_allclose(missed, rows, atol=0.02)


def test_caches_of_different_codecs_never_share_a_vector():
    store = open_store("memory://")
    row = np.random.default_rng(3).standard_normal((1, 32), np.float32)
    found = {
        codec: EmbeddingCache(lambda _: row, model="m", store=store, codec=codec).embed(["text"])
        for codec in ("int8", "float16", "lossless")
    }
    assert len(list(store.keys())) == 3
    assert found["lossless"].tobytes() == row.tobytes()
    assert found["float16"].tobytes() == row.astype(np.float16).astype(np.float32).tobytes()
    assert found["int8"].tobytes() not in {one.tobytes() for one in list(found.values())[1:]}


def test_lossless_is_the_default_and_keeps_its_keys():
    store = open_store("memory://")
    EmbeddingCache(lambda _: [[0.1]], model="m", store=store).embed(["text"])
    again = EmbeddingCache(lambda _: 1 / 0, model="m", store=store, codec="lossless")
    assert again.embed(["text"]).tolist() == [[0.1]]


@pytest.mark.parametrize("codec", ["", "float8", None, 3])
def test_an_unknown_codec_is_refused(codec):
    with pytest.raises(InputError, match="'lossless', 'float16' or 'int8'"):
        EmbeddingCache(lambda _: [[1.0]], model="m", store="memory://", codec=codec)
