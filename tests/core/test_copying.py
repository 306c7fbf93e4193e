"""Large blocks of entries, which are checked and copied beside other work."""

import threading

import numpy as np
import pytest

from askonce.core.table import Table
from tests.core.test_vectors import NOW, bindings_of, exactly, pack


def beside(count, dimensions):
    return Table(bindings_of(count), dimensions=dimensions, now=NOW, beside=True)


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("wide", [False, True])
def test_large_blocks_are_copied_beside_the_next_one_and_are_all_there(threads, wide, monkeypatch):
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", cannot_start)
    before = threading.active_count()
    rows = np.random.default_rng(0).standard_normal((1000, 1536), np.float32)
    rows = rows.astype(np.float64) + 1e-12 if wide else rows
    rows[500:] = rows[500:].astype(np.float32)
    filled = beside(len(rows), None)
    for start in range(0, len(rows), 300):
        part = slice(start, start + 300)
        blobs = pack(rows[part], bindings_of(len(rows))[part])
        filled.put(np.arange(len(rows))[part], blobs if wide else b"".join(blobs))
    filled.finish()
    assert threading.active_count() == before
    assert exactly(filled.take(np.arange(len(rows))), rows)


def test_what_is_wrong_with_a_large_block_is_found_beside_too():
    rows = np.random.default_rng(0).standard_normal((800, 1536), np.float32)
    bindings = bindings_of(len(rows))
    blobs = pack(rows, bindings)
    blobs[3] = blobs[3][:-1] + bytes([blobs[3][-1] ^ 1])
    blobs[401] = pack(rows[401:402], bindings[401:402], expires=NOW)[0]
    blobs[402] = pack(rows[402:403], np.array([7000], np.uint64))[0]
    filled = beside(len(rows), 1536)
    parts = [np.arange(800)[start : start + 200] for start in range(0, 800, 200)]
    foreign = [filled.put(part, b"".join(blobs[part[0] : part[-1] + 1])) for part in parts]
    assert np.concatenate(foreign).tolist() == [402]
    filled.finish()
    assert filled.missing().tolist() == [3, 401, 402]
    # What the model says instead stays, whatever was copied there before.
    filled.fill(np.array([3, 401, 402]), rows[[3, 401, 402]] + 1)
    whole = filled.take(np.arange(800))
    rows[[3, 401, 402]] += 1
    assert exactly(whole, rows)


def test_large_blocks_of_other_dimensions_or_codecs_are_not_mistaken():
    rows = np.random.default_rng(0).standard_normal((400, 1536), np.float32)
    filled = beside(400, 8)
    assert filled.put(np.arange(400), b"".join(pack(rows))).tolist() == list(range(400))
    filled.finish()
    assert filled.missing().size == 400
    wide = rows.astype(np.float64) + 1e-12
    filled = beside(400, 1536)
    filled.put(np.arange(200), b"".join(pack(rows)[:200]))
    filled.put(np.arange(200, 400), b"".join(pack(wide)[200:]))
    filled.finish()
    expected = np.concatenate([rows[:200].astype(np.float64), wide[200:]])
    assert exactly(filled.take(np.arange(400)), expected)


def cannot_start(*_):
    raise RuntimeError("can't start new thread")
