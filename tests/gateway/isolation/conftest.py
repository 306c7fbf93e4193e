"""Fixtures: a provider that knows its keys."""

import pytest

from tests.gateway.isolation.strict_provider import Strict
from tests.http import server as servers


@pytest.fixture(scope="module")
def strict():
    return Strict()


@pytest.fixture(scope="module")
def provider(strict):
    with servers.running(strict) as server:
        yield server
