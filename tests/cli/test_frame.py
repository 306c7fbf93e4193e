"""The frame: help, versions, failures, exit codes."""

import signal
import tomllib
from pathlib import Path

import click
import pytest

import askonce as package
from askonce.cli.app import COMMANDS, app
from tests.cli.helpers import in_process


def test_version(askonce):
    assert askonce("--version").out == f"askonce, version {package.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(askonce, arguments):
    result = askonce(*arguments)
    assert result.code == 0
    assert all(f"  {name} " in result.out for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_says_what_it_does(askonce, name):
    command = app.get_command(click.Context(app), name)
    assert command.name == name
    assert command.help
    result = askonce(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: askonce {name} ")


def test_the_installed_command_is_this_one():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["askonce"] == "askonce.cli:main"


def test_a_command_that_is_none(askonce):
    result = askonce("migrat")
    assert result.code == 1
    assert "No such command" in result.error


def test_a_missing_argument(askonce):
    result = askonce("ls")
    assert result.code == 1
    assert "URL" in result.error


def test_an_error_of_ours_is_one_line(askonce):
    result = askonce("ls", "no url")
    assert result.code == 1
    assert "'no url' is not a store URL" in result.error


def test_an_error_of_the_system_is_one_line(askonce, monkeypatch):
    def fail(url):
        raise PermissionError(13, "Permission denied", url)

    monkeypatch.setattr("askonce.cli.entries.open_existing", fail)
    result = askonce("ls", "sqlite:///x.db")
    assert result.code == 1
    assert "Permission denied" in result.error


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_its_packages_it_says_what_to_install(package, tmp_path):
    result = in_process(
        f"import sys; sys.modules[{package!r}] = None",
        "from askonce.cli import main",
        "sys.exit(main(['--version']))",
        cwd=tmp_path,
    )
    assert result.code == 1
    assert f"needs the package '{package}'" in result.error
    assert "pip install 'askonce[cli]'" in result.error


def test_a_family_is_imported_when_it_is_called(tmp_path):
    result = in_process(
        "import sys",
        "from askonce.cli import main",
        "main(['--version'])",
        "assert 'askonce.cli.entries' not in sys.modules",
        "assert 'langchain_core' not in sys.modules",
        cwd=tmp_path,
    )
    assert result.code == 0, result.err


def test_control_c(tmp_path):
    result = in_process(
        "import os, signal, sys",
        "from askonce.cli import entries, main",
        "entries.open_existing = lambda url: os.kill(os.getpid(), signal.SIGINT)",
        "sys.exit(main(['ls', 'sqlite:///x.db']))",
        cwd=tmp_path,
    )
    assert result.code == 128 + signal.SIGINT
    assert result.err.strip() == "askonce: interrupted"


def test_a_reader_that_has_seen_enough(tmp_path):
    result = in_process(
        "import os, subprocess, sys, askonce",
        "store = askonce.open_store('sqlite:///x.db')",
        "store.write({f'key-{n:099}': b'' for n in range(5000)})",
        "command = [sys.executable, '-m', 'askonce.cli', 'ls', 'sqlite:///x.db']",
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)",
        "child.stdout.readline(); child.stdout.close()",
        "assert child.wait() == 1",
        "assert child.stderr.read() == b''",
        "child.stderr.close()",
        cwd=tmp_path,
    )
    assert result.code == 0, result.err
