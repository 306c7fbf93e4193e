"""Tiers from URLs and from stores."""

import pytest

import askonce
from askonce import InputError, open_store
from askonce.stores.file import FileStore
from askonce.stores.memory import MemoryStore


def test_opens_from_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("tiered+sqlite:///near%20it.db?max_bytes=2MB&far=file:///far") as tier:
        assert tier.near.path == tmp_path / "near it.db"
        assert tier.near.max_bytes == 2_000_000
        assert isinstance(tier.far.store, FileStore)
        tier.write({"a/1": b"one"})
    assert not (tmp_path / "near it.db.outbox").exists()
    far = "sqlite:///far.db%3Fmax_bytes=3MB"
    url = f"tiered+memory://?far={far}&fresh_within=2&near_ttl=60&outbox=out&outbox_bytes=1MB"
    with open_store(url) as tier:
        assert isinstance(tier.near, MemoryStore)
        assert tier.far.store.max_bytes == 3_000_000
        assert tier._outbox.path.name == "out"
        assert tier._outbox.max_bytes == 1_000_000
        assert tier.retiring._fresh_within == 2
        assert tier.retiring._near_ttl == 60


def test_tiers_over_tiers(tmp_path):
    inner = f"tiered+sqlite:///{tmp_path}/near.db%3Ffar=file:///{tmp_path}/far"
    with open_store(f"tiered+memory://?far={inner}") as tier:
        tier.write({"a/1": b"one"})
        assert tier.far.store.far.store.read(["a/1"]) == [b"one"]


@pytest.mark.parametrize(
    "url",
    [
        "tiered+sqlite:///near.db",
        "tiered+memory://",
        "tiered+memory://?far=nonsense",
        "tiered+memory://?far=memory://&near_ttl=soon",
        "tiered+memory://?far=memory://&fresh_within=-1",
        "tiered+memory://?far=memory://&colour=blue",
        "tiered+nothing://?far=memory://",
        "tiered://?far=memory://",
    ],
)
def test_refuses_urls_it_cannot_use(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_store(url)


def test_refuses_options_it_cannot_use():
    with pytest.raises(InputError, match="fresh_within"):
        askonce.tiered("memory://", "memory://", fresh_within=-1)
    with pytest.raises(InputError, match="near_ttl"):
        askonce.tiered("memory://", "memory://", near_ttl=0)


def test_joins_urls_and_stores(tmp_path):
    with askonce.tiered(MemoryStore(), f"file:///{tmp_path}/far") as tier:
        tier.write({"a/1": b"one"})
        assert tier.far.store.read(["a/1"]) == [b"one"]
