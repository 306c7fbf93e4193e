"""Fixtures: a provider, and test modules that are run before it."""

import textwrap

# Imported here, once: a run of pytest in this process forgets what it imports.
import httpx
import httpx2
import hypothesis.strategies
import langchain_core.language_models
import pytest

import askonce.integrations.langchain
from tests.testing.plugin.suites import HEAD
from tests.testing.provider import provider


@pytest.fixture
def server():
    with provider() as server:
        yield server


@pytest.fixture
def suite(pytester, server):
    """Write a test module; give a function that runs it with options."""

    pytester.makeini(
        "[pytest]\naddopts = --import-mode=importlib\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )

    class Suite:
        folder = pytester.path / "cassettes" / "test_it"

        def write(self, code, name="test_it"):
            text = textwrap.dedent(HEAD.format(url=server.url)) + textwrap.dedent(code)
            (pytester.path / f"{name}.py").write_text(text)

        def run(self, *options):
            return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

        @property
        def files(self):
            return sorted(self.folder.glob("*"))

    return Suite()
