"""The command line: one file a family of commands, imported when one of them is called."""

import importlib
import sys
from collections.abc import Sequence

from askonce.errors import MissingExtraError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, that of this process if none is given, and tell its exit code."""
    for package in ("click", "rich"):
        try:
            importlib.import_module(package)
        except ImportError:
            print(f"askonce: {MissingExtraError(package, 'cli', 'this command')}", file=sys.stderr)  # noqa: T201  there may be no click to echo it
            return 1
    from askonce.cli.app import run  # noqa: PLC0415  it needs click

    return run(arguments)
