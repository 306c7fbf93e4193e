"""The pytest plugin: answers of models recorded once, and replayed from then on.

It is loaded by pytest wherever askonce is installed, and does nothing until a test takes one of
its fixtures.
"""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from askonce.core.store import Store
from askonce.http import HTTPCache
from askonce.testing import sockets
from askonce.testing.cassette_http import CassetteCache, async_client, client
from askonce.testing.cassette_store import CassetteStore
from askonce.testing.cassettes import MODES, Cassette
from askonce.testing.recordings import Recordings

_FIXTURE: Final = "askonce_cassette"
_RECORDINGS = pytest.StashKey[Recordings]()
_CASSETTE = pytest.StashKey[Cassette]()

_WISHES: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": MODES,
    "cassette": (),
    "library": ("httpx2", "httpx"),
    "errors": (),
    "timing": (),
}
"""What the marker may say, and the values that it may say it with."""

_MARKER = (
    "askonce(mode=None, cassette=None, library=None, errors=False, timing=False): record and "
    "replay models' answers: how (replay, record, auto, off), in which folder of cassettes/, "
    "with the client of which library (httpx2, httpx), answers with an error status too, "
    "streams at the pace at which they came"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("askonce", "record and replay models' answers")
    group.addoption(
        "--askonce",
        choices=MODES,
        metavar="|".join(MODES),
        help="replay: ask nobody, and fail on what is not recorded; record: ask for everything "
        "and record it; auto: replay what is recorded and record the rest; off: ask for "
        "everything and record nothing",
    )
    group.addoption(
        "--askonce-prune",
        action="store_true",
        help="delete the cassettes that no test used, of modules whose tests have all passed",
    )
    group.addoption(
        "--askonce-no-network",
        action="store_true",
        help="fail whatever connects a socket, in tests with askonce's fixtures or without",
    )
    parser.addini("askonce", f"how to get models' answers: {', '.join(MODES)}", default="replay")


def pytest_configure(config: pytest.Config) -> None:
    """Read how answers are to be had."""
    config.addinivalue_line("markers", _MARKER)
    recordings = Recordings(
        option=config.getoption("--askonce"), setting=str(config.getini("askonce"))
    )
    config.stash[_RECORDINGS] = recordings
    config.add_cleanup(recordings.close)
    if config.getoption("--askonce-no-network"):
        guard = contextlib.ExitStack()
        guard.enter_context(sockets.forbidden())
        config.add_cleanup(guard.close)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Take note that these tests do not run."""
    for item in filter(_takes_cassettes, items):
        item.config.stash[_RECORDINGS].expect(_folder_of(item), item.nodeid)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take note of the tests that will run."""
    recordings = session.config.stash[_RECORDINGS]
    items = list(filter(_takes_cassettes, session.items))
    for item in items:
        recordings.expect(_folder_of(item), item.nodeid)
    if items:
        recordings.watch()
    # A test picked by name leaves others of its module out, and nobody tells which.
    here = session.config.invocation_params.dir
    for argument in session.config.args:
        file, picked, _ = argument.partition("::")
        if picked:
            recordings.partial.add(here.joinpath(file).parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that asked for what is not recorded, even if it swallowed the failure."""
    outcome = yield
    cassette = item.stash.get(_CASSETTE, None)
    if cassette is not None:
        if cassette.failures:
            pytest.fail(cassette.failures[0], pytrace=False)
        item.config.stash[_RECORDINGS].finished(cassette)
    return outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this process of pytest-xdist did to the one that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["askonce"] = session.config.stash[_RECORDINGS].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what another process of pytest-xdist did."""
    dumped = getattr(node, "workeroutput", {}).get("askonce")
    if dumped is not None:
        node.config.stash[_RECORDINGS].load(dumped)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell what was replayed and recorded, and which cassettes are of no use any more."""
    recordings = config.stash[_RECORDINGS]
    lines = recordings.summary()
    if unused := recordings.unused():
        prune = config.getoption("--askonce-prune")
        count = f"{len(unused)} unused {'cassette' if len(unused) == 1 else 'cassettes'}"
        lines.append(f"deleted {count}:" if prune else f"{count} (--askonce-prune deletes them):")
        for file in unused:
            lines.append(f"  {_short(file, config)}")
            if prune:
                file.unlink(missing_ok=True)
    if lines:
        terminalreporter.write_sep("-", "askonce")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def askonce_cassette(request: pytest.FixtureRequest) -> Cassette:
    """Give the cassettes of this test, which all other fixtures of askonce use."""
    item = request.node
    marker = _marked(item)
    recordings: Recordings = request.config.stash[_RECORDINGS]
    cassette = recordings.cassette(
        _folder_of(item),
        item.nodeid,
        mode=marker.get("mode"),
        errors=marker.get("errors", False),
        timing=marker.get("timing", False),
    )
    item.stash[_CASSETTE] = cassette
    return cassette


@pytest.fixture
def askonce_store(askonce_cassette: Cassette) -> Store:
    """Give a store for whatever asks once through a store: LangChain's models, embeddings."""
    return CassetteStore(askonce_cassette)


@pytest.fixture
def askonce_cache(askonce_cassette: Cassette) -> HTTPCache:
    """Give a cache of HTTP answers, for transports of one's own."""
    return CassetteCache(askonce_cassette)


@pytest.fixture
def askonce_client(request: pytest.FixtureRequest, askonce_cassette: Cassette) -> Iterator[Any]:
    """Give an HTTP client for an SDK: `OpenAI(http_client=askonce_client)`."""
    with client(askonce_cassette, _marked(request.node).get("library")) as made:
        yield made


@pytest.fixture
def askonce_async_client(request: pytest.FixtureRequest, askonce_cassette: Cassette) -> Any:
    """Give an async HTTP client for an SDK: `AsyncOpenAI(http_client=askonce_async_client)`."""
    return async_client(askonce_cassette, _marked(request.node).get("library"))


def _takes_cassettes(item: pytest.Item) -> bool:
    return _FIXTURE in getattr(item, "fixturenames", ())


def _marked(item: pytest.Item) -> dict[str, Any]:
    """Give what the markers of a test say; the nearest one wins."""
    wishes: dict[str, Any] = {}
    for marker in item.iter_markers("askonce"):
        if marker.args:
            raise pytest.UsageError("the marker askonce takes names: mode=, cassette=, …")
        wishes = {**marker.kwargs, **wishes}
    if unknown := set(wishes).difference(_WISHES):
        raise pytest.UsageError(
            f"the marker askonce has {', '.join(_WISHES)}; not {', '.join(sorted(unknown))}"
        )
    for name, values in _WISHES.items():
        if values and wishes.get(name) not in (None, *values):
            raise pytest.UsageError(f"{name} is {wishes[name]!r}; there are {', '.join(values)}")
    return wishes


def _folder_of(item: pytest.Item) -> Path:
    """Name the folder of a test's cassettes: one for all tests of a module."""
    return item.path.parent / "cassettes" / (_marked(item).get("cassette") or item.path.stem)


def _short(path: Path, config: pytest.Config) -> str:
    return str(path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else path)
