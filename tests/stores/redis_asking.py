"""A Redis asked in both colours, by a store that is asked again at once after it failed."""

import asyncio
import time

import pytest

from askonce import Store, StoreError, open_store

PATIENT = "?lookup_timeout=30&timeout=30"
BRISK = "?lookup_timeout=0.2&timeout=0.5"


def unguarded(url: str) -> Store:
    return open_store(url).store


def in_both_colours(url, verb, *arguments):
    """Call a verb in one colour and the other, each with a store of its own; give both errors."""
    with unguarded(url) as store, pytest.raises(StoreError) as sync:
        list(result) if verb == "keys" and (result := store.keys()) else getattr(store, verb)(
            *arguments
        )

    async def call():
        store = unguarded(url)
        try:
            if verb == "keys":
                return [key async for key in store.akeys()]
            return await getattr(store, f"a{verb}")(*arguments)
        finally:
            await store.aclose()

    with pytest.raises(StoreError) as coloured:
        asyncio.run(call())
    return sync.value, coloured.value


def in_time(ask):
    """Ask until there is an answer in time; a server that was just paused may need some."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except StoreError:
            assert time.monotonic() < deadline


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def each_verb(url, match, *, kind=StoreError):
    verbs = [
        ("read", ["a/1", "a/2"]),
        ("write", {"a/1": b"x"}),
        ("delete", ["a/1"]),
        ("keys",),
        ("clear", ""),
        ("size",),
    ]
    for verb, *arguments in verbs:
        for error in in_both_colours(url, verb, *arguments):
            assert type(error) is kind, (verb, error)
            assert match in str(error), verb
            assert "secret" not in str(error), verb
            assert "127.0.0.1" in str(error), verb
