"""A pytest plugin for runs of LangChain's own tests: puts our classes where theirs were.

It reads from the variable ASKONCE_SHIM what to replace in which test file (see `suites.py`), makes
sure that no test module kept a class that should be gone, counts the calls into ours by test file,
and writes what happened to the file named there, as JSON.
"""

import functools
import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

_settings = json.loads(os.environ["ASKONCE_SHIM"])
_files: dict[str, dict[str, str]] = _settings["files"]
_originals: dict[str, object] = {}
_calls: Counter[str] = Counter()
_outcomes: dict[str, str] = {}
_reasons: dict[str, str] = {}
_file = ""


def _load(target: str) -> object:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _replace_everywhere(original: object, ours: object) -> None:
    """Replace an object in every module that has it, under whatever name."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is original:
                setattr(module, name, ours)


def _count_calls(ours: type, target: str) -> None:
    """Count calls of public methods, without getting between a class and its module."""
    for name in dir(ours):
        if not name.startswith("_"):
            attribute = next(vars(base)[name] for base in ours.__mro__ if name in vars(base))
            if callable(attribute) and not isinstance(attribute, type | staticmethod | classmethod):
                setattr(ours, name, _counted(attribute, target))


def _counted(method, target: str):
    @functools.wraps(method)
    def call(*arguments, **keywords):
        _calls[f"{_file} {target}"] += 1
        return method(*arguments, **keywords)

    return call


def pytest_configure() -> None:
    replacements = {name: target for file in _files.values() for name, target in file.items()}
    for name in replacements:
        if not name.startswith(":"):
            _originals[name] = _load(name)
    for target in set(replacements.values()):
        ours = _load(target)
        _count_calls(getattr(ours, "OURS", ours), target)
    for name, original in _originals.items():
        _replace_everywhere(original, _load(replacements[name]))


def pytest_collection_finish(session: pytest.Session) -> None:
    modules = {item.nodeid.partition("::")[0]: item.module for item in session.items}
    if modules.keys() != _files.keys():
        raise pytest.UsageError(f"there are no tests in {_files.keys() - modules.keys()}")
    for file, module in modules.items():
        for name, target in _files[file].items():
            attribute = name.partition(":")[2]
            if not hasattr(module, attribute):
                raise pytest.UsageError(f"{file} does not use {name}")
            if name.startswith(":"):
                setattr(module, attribute, _load(target))
            if getattr(module, attribute) is not _load(target):
                raise pytest.UsageError(f"{file} has another {attribute} than ours")
        for attribute, value in vars(module).items():
            if any(value is original for original in _originals.values()):
                raise pytest.UsageError(f"{attribute} of {file} was not replaced")


def pytest_runtest_logstart(nodeid: str) -> None:
    global _file
    _file = nodeid.partition("::")[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        if _outcomes.get(report.nodeid) in (None, "passed"):
            crash = getattr(report.longrepr, "reprcrash", None)
            _outcomes[report.nodeid] = outcome
            _reasons[report.nodeid] = crash.message if crash else str(report.longrepr or "")


def pytest_sessionfinish() -> None:
    report = {"outcomes": _outcomes, "reasons": _reasons, "calls": _calls}
    Path(_settings["report"]).write_text(json.dumps(report))
