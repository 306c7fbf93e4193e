"""Disks that are full or may not be written."""

import itertools
import os
import pathlib
import resource

import numpy as np

from askonce import EmbeddingCache, StoreError, open_store

WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Root may write what nobody may, unless these rights are taken away."""


def fill(url: str, ballast: str) -> None:
    """Write until the disk is full, read, make room, write again.

    The disk gets room by deleting the file `ballast`; without one, a limit on the size of files
    stands in for the disk.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not ballast:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limit[1]))
    store = open_store(url)
    kept: dict[str, bytes] = {}
    for number in itertools.count():
        entries = {f"a/{number}-{part}": os.urandom(60_000 + number) for part in range(3)}
        try:
            store.write(entries)
        except StoreError as error:
            print(error)
            break
        kept |= entries
    assert len(kept) > 6
    check(store, kept)
    again = open_store(url)
    check(again, kept)

    def embed(texts: list[str]) -> list[list[float]]:
        return np.ones((len(texts), 20_000)).tolist()

    events = []
    texts = [str(number) for number in range(50)]
    answer = EmbeddingCache(embed, model="m", store=again, observe=events.append).embed(texts)
    assert answer.shape == (50, 20_000)
    assert {event.kind for event in events} == {"miss", "store_failed"}
    if ballast:
        pathlib.Path(ballast).unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    store.write({"b/after": b"after"})
    kept["b/after"] = b"after"
    check(store, kept)
    check(again, kept)
    store.close()
    again.close()
    check(open_store(url), kept)


def check(store, kept: dict[str, bytes]) -> None:
    assert store.read(list(kept)) == list(kept.values())
    # A batch that failed is there as a whole, in part or not at all, but each entry is whole.
    others = set(store.keys()) - set(kept)
    assert all(len(value or b"") > 60_000 for value in store.read(list(others)))


def may_not_write(url: str, existing: str) -> None:
    """Open a store where nothing may be written: say so, or at least read."""
    for each in (url, existing):
        try:
            store = open_store(each)
        except StoreError as error:
            print("open:", error)
            continue
        print("read:", store.read(["a/1"]))
        try:
            store.write({"a/1": b"new", "a/2": b"new"})
        except StoreError as error:
            print("write:", error)
        else:
            raise AssertionError(f"{each} was written")
