"""A configuration that is read anew: what stays, and what a failure leaves behind."""

import asyncio

import pytest

from askonce.errors import InputError
from askonce.gateway.app import Gateway
from askonce.gateway.config import Config

UPSTREAM = {"name": "fake", "base_url": "http://up.test/v1", "paths": ["/v1/*"]}


def configuration(store="memory://", **more):
    return Config.model_validate({"cache": {"store": store}, "upstreams": [UPSTREAM], **more})


class Reloading:
    """Hold a gateway and what it is told next."""

    def __init__(self):
        self.told = configuration()
        self.gateway = Gateway(self.load)

    def load(self):
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    @property
    def store(self):
        return self.gateway._state.store


@pytest.fixture
async def reloading():
    reloading = Reloading()
    await reloading.gateway.start()
    yield reloading
    await reloading.gateway.stop()
    assert not reloading.gateway._retiring


async def settled(reloading):
    await asyncio.gather(*reloading.gateway._retiring)


async def test_a_store_that_is_named_again_stays(reloading):
    store = reloading.store
    store.write({"key": b"value"})
    for _ in range(3):
        await reloading.gateway.reload()
        await settled(reloading)
    assert reloading.store is store
    assert store.read(["key"]) == [b"value"]


async def test_another_store_takes_the_place_of_the_last(reloading, tmp_path):
    first = reloading.store
    reloading.told = configuration(f"sqlite:///{tmp_path}/other.db")
    await reloading.gateway.reload()
    await settled(reloading)
    assert reloading.store is not first
    reloading.store.write({"key": b"value"})
    reloading.told = configuration()
    await reloading.gateway.reload()
    await settled(reloading)
    assert reloading.store.read(["key"]) == [None]


@pytest.mark.parametrize("error", [InputError("no such key"), PermissionError("not yours")])
async def test_what_cannot_be_read_changes_nothing(reloading, error):
    state = reloading.gateway._state
    reloading.told = error
    await reloading.gateway.reload()
    assert reloading.gateway._state is state
    assert not reloading.gateway._retiring


async def test_what_cannot_be_opened_leaves_the_shared_store_open(reloading, monkeypatch):
    async def fail(self):
        raise InputError("cannot be opened")

    state, store = reloading.gateway._state, reloading.store
    with monkeypatch.context() as patch:
        patch.setattr(type(state), "open", fail)
        await reloading.gateway.reload()
    assert reloading.gateway._state is state
    store.write({"key": b"value"})
    assert store.read(["key"]) == [b"value"]


async def test_reloads_at_the_same_moment_follow_one_another(reloading, tmp_path):
    urls = [f"sqlite:///{tmp_path}/other.db", "memory://"] * 3
    tasks = []
    for url in urls:
        reloading.told = configuration(url)
        tasks.append(asyncio.ensure_future(reloading.gateway.reload()))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    await settled(reloading)
    reloading.store.write({"key": b"value"})
    assert reloading.store.read(["key"]) == [b"value"]


async def test_no_reload_outlives_the_end(reloading):
    reload = asyncio.ensure_future(reloading.gateway.reload())
    await asyncio.sleep(0)
    await reloading.gateway.stop()
    await reload
    await reloading.gateway.reload()
    assert reloading.gateway._state is None
