"""Stores to copy, to export and to import, and what is in them."""

import math
import os
import time

from askonce import EmbeddingCache, open_store
from askonce.core import codecs, entry

PLACES = ["sqlite:///{}.db", "lmdb:///{}", "file:///{}"]


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


def damage(store):
    store.write({"a/good": packed(), "a/torn": packed(b"x" * 100)[:-8], "a/empty": b"", "a/\n": b"ASK1"})
