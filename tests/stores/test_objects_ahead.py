"""Values are got from where they were last known to be while the log is listed."""

import asyncio
import contextlib
import pathlib
from collections.abc import Iterator

import pytest
from askonce import StoreError
from askonce.stores.objects import ObjectStore
from tests.stores.objects import VECTORS, in_folder, opened

Pair = tuple[ObjectStore, ObjectStore]


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Iterator[Pair]:
    """Give two stores of the same objects, both of which know the vectors in them."""
    url = in_folder(tmp_path / "objects")
    with opened(url) as one, opened(url) as other:
        one.write(VECTORS)
        assert other.read(list(VECTORS)) == list(VECTORS.values())
        yield one, other


@pytest.mark.parametrize("number", [0, 1], ids=["after a write", "after a look-up"])
async def test_lists_and_gets_side_by_side(pair, monkeypatch, number):
    store = pair[number]
    bucket = store._bucket
    listing, get_view = bucket.listing, bucket.get_view
    asked = asyncio.Event()

    async def listing_after_a_get(*arguments):
        await asked.wait()
        return await listing(*arguments)

    async def get(*arguments):
        asked.set()
        return await get_view(*arguments)

    monkeypatch.setattr(bucket, "listing", listing_after_a_get)
    monkeypatch.setattr(bucket, "get_view", get)
    assert await store.aread(list(VECTORS)) == list(VECTORS.values())


KEYS = list(VECTORS)
CHANGES = {
    "nothing": ({}, lambda store: None),
    "one anew": ({KEYS[7]: b"anew"}, lambda store: store.awrite({KEYS[7]: b"anew"})),
    "all anew": (
        {key: bytes([number % 7]) * 5_000 for number, key in enumerate(KEYS)},
        lambda store: store.awrite(CHANGES["all anew"][0]),
    ),
    "some deleted": (dict.fromkeys(KEYS[300:]), lambda store: store.adelete(KEYS[300:])),
    "all deleted": (dict.fromkeys(KEYS), lambda store: store.aclear("")),
}


async def change(store: ObjectStore, name: str, *, vacuum: bool) -> dict[str, bytes | None]:
    changed, work = CHANGES[name]
    if name != "nothing":
        await work(store)
    if vacuum:
        await store.avacuum()
    return VECTORS | changed


@pytest.mark.parametrize("vacuum", [False, True])
@pytest.mark.parametrize("name", CHANGES)
async def test_what_others_changed_before_is_seen(pair, name, vacuum):
    expected = await change(pair[1], name, vacuum=vacuum)
    assert await pair[0].aread(KEYS) == [expected[key] for key in KEYS]


@pytest.mark.parametrize("vacuum", [False, True])
@pytest.mark.parametrize("name", CHANGES)
async def test_what_others_change_before_the_log_is_listed_is_seen(pair, monkeypatch, name, vacuum):
    """Also where the old values were got already, or were swept away before they could be."""
    one, other = pair
    bucket = one._bucket
    expected: dict[str, bytes | None] = {}
    listing = bucket.listing

    async def listing_late(*arguments):
        if not expected:
            expected.update(await change(other, name, vacuum=vacuum))
        return await listing(*arguments)

    monkeypatch.setattr(bucket, "listing", listing_late)
    assert await one.aread(KEYS) == [expected[key] for key in KEYS]


@pytest.mark.parametrize("failure", [StoreError("not now"), FileNotFoundError()], ids=repr)
@pytest.mark.parametrize("name", ["nothing", "one anew", "all anew"])
async def test_what_was_got_ahead_in_vain_does_no_harm(pair, monkeypatch, name, failure):
    one, other = pair
    bucket = one._bucket
    get_view = bucket.get_view
    failures = [failure]

    async def get(*arguments):
        if failures:
            raise failures.pop()
        return await get_view(*arguments)

    monkeypatch.setattr(bucket, "get_view", get)
    expected = await change(other, name, vacuum=False)
    assert await one.aread(KEYS) == [expected[key] for key in KEYS]
    assert not failures


async def test_an_error_or_a_cancellation_leaves_nothing_behind(pair, monkeypatch, caplog):
    one, _ = pair
    bucket = one._bucket

    async def fail(*_):
        raise StoreError("gone")

    monkeypatch.setattr(bucket, "get_view", fail)
    with monkeypatch.context() as patch:
        patch.setattr(bucket, "listing", fail)
        with pytest.raises(StoreError, match="gone"):
            await one.aread(KEYS)
    with pytest.raises(StoreError, match="gone"):
        await one.aread(KEYS)
    monkeypatch.undo()
    reading = asyncio.ensure_future(one.aread(KEYS))
    await asyncio.sleep(0)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    assert await one.aread(KEYS) == list(VECTORS.values())
    assert not caplog.records


def test_who_only_writes_forgets_what_others_merged(pair):
    one, other = pair
    for number in range(300):
        one.write({f"a/{number}": b"x"})
        if number % 10 == 9:
            other.vacuum()
    assert len(one._log.known) < 100
    assert len(one._log._loaded) < 100
    assert one.read([f"a/{number}" for number in range(300)]) == [b"x"] * 300
