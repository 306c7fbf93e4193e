import pytest

from askonce import InputError, StoreError, open_store
from askonce.stores.memory import MemoryStore
from askonce.testing import Opener, Raw, StoreTests
from tests.alone import alone
from tests.stores import forks


class TestMemoryStore(StoreTests):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()
        return lambda: store

    @pytest.fixture
    def raw(self, opener: Opener) -> Raw:
        return lambda: dict(opener()._entries)


def room_for(entries: int, value: int = 1000) -> int:
    return entries * (len("a/0") + value + 200)


def test_gives_up_the_least_recently_used_first():
    store = MemoryStore(room_for(3))
    for name in "012":
        store.write({f"a/{name}": b"x" * 1000})
    store.read(["a/0"])
    store.write({"a/3": b"x" * 1000})
    assert sorted(store.keys()) == ["a/0", "a/2", "a/3"]
    store.write({"a/2": b"y" * 1000})
    store.write({"a/4": b"x" * 1000})
    assert sorted(store.keys()) == ["a/2", "a/3", "a/4"]


def test_rewriting_and_deleting_give_room_back():
    store = MemoryStore(room_for(2))
    for value in (b"x" * 1000, b"", b"y" * 1000, b"z" * 1000):
        store.write({"a/0": value})
    store.write({"a/1": b"x" * 1000})
    assert len(list(store.keys())) == 2
    store.delete(["a/0"])
    store.write({"a/2": b"x" * 1000})
    assert sorted(store.keys()) == ["a/1", "a/2"]


def test_one_batch_above_the_limit_keeps_its_end():
    store = MemoryStore(room_for(3))
    store.write({f"a/{number}": b"x" * 1000 for number in range(10)})
    assert sorted(store.keys()) == ["a/7", "a/8", "a/9"]


def test_an_entry_above_the_limit_pushes_nothing_out():
    store = MemoryStore(room_for(3))
    store.write({"a/0": b"x" * 1000, "a/1": b"x"})
    with pytest.raises(StoreError, match="raise max_bytes"):
        store.write({"a/2": b"x" * 100_000})
    assert sorted(store.keys()) == ["a/0", "a/1"]
    with pytest.raises(StoreError, match="raise max_bytes"):
        store.write({"a/0": b"x" * 100_000})
    assert store.read(["a/0", "a/1"]) == [None, b"x"]


def test_keeps_its_own_copy_of_a_changeable_value():
    store = MemoryStore()
    value = bytearray(b"before")
    store.write({"a/0": value})
    value[:] = b"after!"
    assert store.read(["a/0"]) == [b"before"]


@pytest.mark.parametrize(
    ("url", "size"),
    [
        ("memory://", 256 * 1024**2),
        ("MEMORY://", 256 * 1024**2),
        ("memory://?max_bytes=5000", 5000),
        ("memory://?max_bytes=64MB", 64_000_000),
        ("memory://?max_bytes=0.5GiB", 512 * 1024**2),
    ],
)
def test_opens_from_a_url(url, size):
    store = open_store(url)
    assert isinstance(store, MemoryStore)
    assert store.max_bytes == size


def test_each_url_opens_a_store_of_its_own():
    one, two = open_store("memory://"), open_store("memory://")
    one.write({"a/0": b"mine"})
    assert two.read(["a/0"]) == [None]


@pytest.mark.parametrize(
    "url",
    [
        "memory://?max_bytes=lots",
        "memory://?max_bytes=-1",
        "memory://?max_bytes=",
        "memory://?size=1",
    ],
)
def test_refuses_options_it_cannot_use(url):
    with pytest.raises(InputError):
        open_store(url)


def test_a_fork_amid_threads_does_not_lock_the_child_out():
    alone(forks.fork_amid_threads, "memory://")
