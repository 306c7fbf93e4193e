import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import (
    AskonceError,
    InputError,
    InputTypeError,
    MissingExtraError,
    StoreError,
    open_store,
)
from askonce.stores import Location, parse_size
from askonce.stores.memory import MemoryStore


def test_a_store_is_given_back_as_it_is():
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize("what", [None, 7, b"memory://", ["memory://"], MemoryStore])
def test_only_urls_and_stores_are_taken(what):
    with pytest.raises(InputTypeError, match="a URL or a Store"):
        open_store(what)


@pytest.mark.parametrize("url", ["", "cache.db", "sqlite:cache.db", "sqlite:/cache.db", "://x"])
def test_what_is_no_url_is_told_how_to_write_one(url):
    with pytest.raises(InputError, match="sqlite:///cache.db"):
        open_store(url)


def test_an_unknown_scheme_names_the_known_ones():
    with pytest.raises(InputError, match="known are .*file, .*lmdb, memory, .*sqlite"):
        open_store("cassandra:///x")


@pytest.mark.parametrize("scheme", ["file", "sqlite", "lmdb"])
class TestPaths:
    @pytest.fixture(autouse=True)
    def in_an_empty_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def test_three_slashes_are_relative_and_four_absolute(self, scheme, tmp_path):
        assert str(Location.of(f"{scheme}:///a/b").file_path()) == "a/b"
        assert Location.of(f"{scheme}:///{tmp_path}/a").file_path() == tmp_path / "a"
        assert Location.of(f"{scheme}:///~/a").file_path() == tmp_path / "home/a"
        assert (
            str(Location.of(f"{scheme}:///with%20space%3F.db?x=1").file_path()) == "with space?.db"
        )
        assert str(Location.of(f"{scheme}:///.").file_path()) == "."

    def test_two_slashes_are_an_error(self, scheme):
        with pytest.raises(InputError, match=f"two slashes; write {scheme}:///relative/path"):
            open_store(f"{scheme}://cache")

    @pytest.mark.parametrize("path", ["", "/"])
    def test_no_path_is_an_error(self, scheme, path):
        with pytest.raises(InputError):
            open_store(f"{scheme}://{path}")

    def test_a_forgotten_fourth_slash_is_an_error(self, scheme, tmp_path):
        with pytest.raises(InputError, match=f"{scheme}:////tmp/x/y for the absolute path"):
            open_store(f"{scheme}:///tmp/x/y")
        assert str(Location.of(f"{scheme}:///./tmp/x").file_path()) == "tmp/x"
        (tmp_path / "tmp").mkdir()
        assert str(Location.of(f"{scheme}:///tmp/x").file_path()) == "tmp/x"

    def test_a_home_that_is_not_known_is_an_error(self, scheme):
        with pytest.raises(InputError):
            open_store(f"{scheme}:///~nobody-of-this-name/x")

    def test_an_unknown_option_is_an_error(self, scheme):
        with pytest.raises(InputError, match="unknown option 'colour'"):
            open_store(f"{scheme}:///x?colour=blue")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500000", 500_000),
        ("64MB", 64_000_000),
        ("64 mb", 64_000_000),
        ("64M", 64_000_000),
        ("2GiB", 2 * 1024**3),
        ("1.5KiB", 1536),
        ("7B", 7),
        ("1T", 10**12),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "-1", "-1GB", "nan", "inf", "1e400", "1XB", "1 2", "GB1"]
)
def test_what_is_no_size_says_how_to_write_one(text):
    with pytest.raises(InputError, match="64MB or 2GiB"):
        parse_size(text)


@given(st.text())
def test_any_text_is_a_size_or_an_error_of_ours(text):
    try:
        assert parse_size(text) >= 0
    except InputError:
        pass


@given(st.text(), st.sampled_from(["", "memory://", "nothing://", "memory://?max_bytes="]))
def test_any_text_is_a_store_or_an_error_of_ours(text, start):
    if "file:" in text or "sqlite:" in text or "lmdb:" in text:
        return
    try:
        open_store(start + text).close()
    except AskonceError:
        pass


def install(folder, monkeypatch, target):
    """Install a package beside ours that brings a store of its own."""
    (folder / "shelf.py").write_text(
        "from askonce.stores.memory import MemoryStore\n"
        "class ShelfStore(MemoryStore):\n"
        "    @classmethod\n"
        "    def open(cls, location):\n"
        "        location.only_options('colour')\n"
        "        store = cls()\n"
        "        store.location = location\n"
        "        return store\n"
    )
    info = folder / "shelf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[askonce.stores]\nshelf = {target}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_another_package_brings_a_scheme(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "shelf:ShelfStore")
    store = open_store("shelf://host:1234/a/b?colour=blue")
    assert type(store).__name__ == "ShelfStore"
    assert store.location.path == "host:1234/a/b"
    assert store.location.options == {"colour": "blue"}
    with pytest.raises(InputError, match="shelf stores have colour"):
        open_store("shelf://?size=1")
    sys.modules.pop("shelf")


@pytest.mark.parametrize("target", ["shelf:NoSuchStore", "no_such_module:Store"])
def test_another_package_that_is_broken_is_named(tmp_path, monkeypatch, target):
    install(tmp_path, monkeypatch, target)
    with pytest.raises(StoreError, match=f"{target} failed to load"):
        open_store("shelf://")
    sys.modules.pop("shelf", None)


def test_a_backend_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "askonce.stores.lmdb", raising=False)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'askonce\[lmdb\]'"):
        open_store(f"lmdb:///{tmp_path}/x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hush@host/0?wrong=1",
        "postgresql://host/db?password=hush&wrong=1",
        "postgresql://host/db?wrong=1&sslpassword=hush",
    ],
)
def test_no_secret_of_a_url_is_shown(url):
    location = Location.of(url)
    assert "hush" not in location.shown + repr(location)
    with pytest.raises(InputError) as raised:
        open_store(url)
    assert "hush" not in str(raised.value)
