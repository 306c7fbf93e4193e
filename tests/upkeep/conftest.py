"""Every kind of store that upkeep is tried on."""

import pytest

from askonce import open_store
from tests.upkeep.entries import URLS


@pytest.fixture(params=URLS, ids=["memory", "sqlite", "file", "lmdb"])
def store(request, tmp_path):
    with open_store(request.param.format(tmp_path)) as opened:
        yield opened
