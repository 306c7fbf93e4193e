"""The store of the keys where none is named."""

import pytest

import askonce
from askonce.errors import MissingExtraError
from askonce.gateway.api_keys import KeyRing
from askonce.gateway.places import default_keys_url
from tests.gateway.api_keys.rings import NOW


def test_the_default_store_is_the_users(tmp_path, monkeypatch):
    folder = tmp_path / "a b?c%41"
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: folder)
    url = default_keys_url()
    with askonce.open_store(url) as store:
        KeyRing(store).create("laptop", now=NOW)
    assert (folder / "keys.db").stat().st_mode & 0o077 == 0


def test_what_the_default_store_needs(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "platformdirs", None)
    with pytest.raises(MissingExtraError, match=r"askonce\[gateway\]"):
        default_keys_url()
