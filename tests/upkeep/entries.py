"""Entries for upkeep to judge, and where they lie."""

import numpy as np

from askonce.core import codecs, entry

URLS = ["memory://", "sqlite:///{}/store.db", "file:///{}/store", "lmdb:///{}/store"]
NOW = 1_000_000_000.0


def packed(text="answer", *, created=NOW - 10, expires=entry.NEVER):
    return entry.pack(entry.Entry(text.encode(), codecs.JSON, created, expires))


def vector(*numbers):
    return entry.pack(entry.Entry(np.array(numbers, np.float32).tobytes(), codecs.FLOAT32, NOW))


def flip(blob, bit):
    damaged = bytearray(blob)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


GOOD = packed("a whole entry of some length")
FOREIGN = {"langchain": b"[0.1, 0.2]", "pickled": b"\x80\x04K\x01.", "text": b"ASK0 not ours"}
