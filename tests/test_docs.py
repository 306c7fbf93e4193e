"""The documentation is run: its Python, its command lines, and its promises of completeness.

The blocks of one page share a namespace and a fresh folder. A `text` block right after a `python`
block is what that block prints. In a `console` block the lines after `$ askonce …` are what the
command prints, on stdout and stderr together. A block in an HTML comment sets things up unseen.
"""

import contextlib
import functools
import io
import os
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.cli import main
from askonce.cli.app import COMMANDS
from askonce.cli.reference import markdown
from askonce.core import entry
from askonce.stores import SCHEMES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    language: str
    content: str
    line: int
    follows_at_once: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    end = 0
    for match in FENCE.finditer(text):
        between = text[end : match.start()]
        line = text.count("\n", 0, match.start()) + 2
        blocks.append(Block(match[1], match[2], line, not between.strip()))
        end = match.end()
    return blocks


def runs(page: Path) -> bool:
    return any(block.language in {"python", "console"} for block in blocks_of(page))


def run_python(block: Block, page: Path, namespace: dict[str, object]) -> str:
    code = compile("\n" * (block.line - 1) + block.content, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, namespace)
    return printed.getvalue()


def run_console(content: str, page: Path) -> None:
    for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        program, *arguments = shlex.split(command)
        assert program == "askonce", f"{page.name} shows a command that no test runs: {command}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main(arguments)
        assert printed.getvalue().split() == expected.split(), command


@pytest.fixture
def own_environment():
    """Forget what a page sets."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.parametrize(
    "page", list(filter(runs, PAGES)), ids=lambda page: str(page.relative_to(ROOT))
)
def test_page_runs(page, tmp_path, monkeypatch, own_environment):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("langchain_core.globals._llm_cache", None)
    namespace = {"__name__": "page"}
    printed = ""
    for block in blocks_of(page):
        if block.language == "python":
            printed = run_python(block, page, namespace)
        elif block.language == "text" and block.follows_at_once:
            assert printed == block.content, f"{page.name}:{block.line}"
        elif block.language == "console":
            run_console(block.content, page)



def test_links_lead_somewhere():
    dead = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead


def test_links_to_headings_lead_somewhere():
    dead = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text()):
            if "://" not in target and anchor not in anchors(page.parent / target if target else page):
                dead.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert not dead


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_command_line_reference_is_fresh():
    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text() == markdown(), "run scripts/docs and commit docs/reference/cli.md"


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme_is_documented(scheme):
    assert f"## `{scheme}://" in (ROOT / "docs" / "reference" / "stores.md").read_text()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented(command):
    assert f"## `askonce {command}" in (ROOT / "docs" / "reference" / "cli.md").read_text()


def test_every_extra_and_dependency_is_documented():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(package for packages in extras.values() for package in packages),
        *(
            package
            for packages in project["dependency-groups"].values()
            for package in packages
            if isinstance(package, str)
        ),
    ]
    names = {re.split(r"[\[<>=~ ]", package)[0] for package in wanted} - {"askonce"}
    assert not {name for name in names if f"`{name}`" not in page}
    assert not {extra for extra in extras if f"`{extra}`" not in page}


def test_every_public_name_is_documented():
    import askonce

    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert not {name for name in askonce.__all__ if f"`{name}" not in page}


def test_nothing_speaks_of_this_machine():
    for page in PAGES:
        assert not re.search(r"/work/|/tmp/|/root/", page.read_text()), page



def test_every_name_for_langchain_is_documented():
    from askonce.integrations import langchain

    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert not {name for name in langchain.__all__ if f"`{name}" not in page}


@given(
    payload=st.binary(max_size=100),
    codec=st.integers(0, 255),
    created=st.floats(0, 1e12),
    expires=st.floats(0, 1e12) | st.just(entry.NEVER),
    binding=st.integers(0, 2**64 - 1),
    meta=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
)
def test_the_reader_in_the_docs_reads_what_is_written(payload, **fields):
    written = entry.pack(entry.Entry(payload, **fields))
    assert documented_reader()["read_entry"](written) == {"payload": payload, **fields}


@given(content=st.binary(max_size=80), place=st.integers(0), mask=st.integers(1, 255))
def test_the_reader_in_the_docs_refuses_what_we_refuse(content, place, mask):
    written = bytearray(entry.pack(entry.Entry(content, 1, 1.0, meta={"a": 1})))
    written[place % len(written)] ^= mask
    found = documented_reader()["read_entry"](bytes(written))
    assert (found is None) == (entry.unpack(bytes(written)) is None)


@functools.cache
def documented_reader():
    """What the first block of the page about the entry format defines."""
    page = ROOT / "docs" / "reference" / "entry-format.md"
    namespace = {}
    exec(next(block.content for block in blocks_of(page) if block.language == "python"), namespace)
    return namespace
