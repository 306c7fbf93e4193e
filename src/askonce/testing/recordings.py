"""What a whole run of pytest replays and records."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from askonce.core import keys
from askonce.testing.cassettes import MODES, Cassette, Folder, Mode, Witnessed


class Recordings:
    """Hold the folders of cassettes of one run, and which tests used them.

    `option` is what the command line asks for, `setting` what the configuration does. `partial`
    are the folders from whose files only some tests were picked.
    """

    def __init__(self, *, option: str | None = None, setting: str = "replay") -> None:
        if setting not in MODES:
            raise pytest.UsageError(f"askonce is {setting!r}; there are {', '.join(MODES)}")
        self.partial: set[Path] = set()
        self._option = option
        self._setting = setting
        self._folders: dict[Path, Folder] = {}
        self._witnessed = Witnessed()
        self._watching = contextlib.ExitStack()
        self._expected: dict[Path, set[str]] = {}
        self._finished: dict[Path, set[str]] = {}
        self._used: set[Path] = set()
        self._counts: Counter[str] = Counter()
        self._refused: dict[str, str] = {}

    def watch(self) -> None:
        """Take note of what keys stand for, from now until `close`.

        One test's keys may have been made in another, for LangChain's are remembered.
        """
        self._watching.close()
        self._watching.enter_context(keys.witnessed(self._witnessed.see))

    def close(self) -> None:
        """Take no more notes."""
        self._watching.close()

    def mode_of(self, marked: str | None) -> Mode:
        """Tell the mode of a test: its marker wins, except in a run that is to ask nobody."""
        if self._option == "replay":
            return "replay"
        return cast("Mode", marked or self._option or self._setting)

    def cassette(self, folder: Path, test: str, *, mode: str | None, **wishes: Any) -> Cassette:
        """Open the cassettes of one test."""
        if folder not in self._folders:
            self._folders[folder] = Folder(folder)
        if folder not in self._expected:
            self.watch()
        self.expect(folder, test)
        return Cassette(
            self._folders[folder], self.mode_of(mode), self._witnessed, test=test, **wishes
        )

    def expect(self, folder: Path, test: str) -> None:
        """Take note that a test uses the cassettes of a folder."""
        self._expected.setdefault(folder, set()).add(test)

    def finished(self, cassette: Cassette) -> None:
        """Take note that a test has passed."""
        folder = cassette.folder
        if cassette.mode != "off":
            self._finished.setdefault(folder.path, set()).add(cassette.test)
        self._used |= folder.used
        self._counts.update(replayed=cassette.replayed, recorded=cassette.recorded)
        if cassette.refused:
            self._refused[cassette.test] = cassette.refused[0]

    def dump(self) -> dict[str, Any]:
        """Give all that was noted, as plain data."""
        return {
            "expected": {str(folder): sorted(tests) for folder, tests in self._expected.items()},
            "finished": {str(folder): sorted(tests) for folder, tests in self._finished.items()},
            "partial": sorted(map(str, self.partial)),
            "used": sorted(map(str, self._used)),
            "counts": dict(self._counts),
            "refused": self._refused,
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Add what another process noted."""
        for mine, theirs in ((self._expected, "expected"), (self._finished, "finished")):
            for folder, tests in dumped[theirs].items():
                mine.setdefault(Path(folder), set()).update(tests)
        self.partial.update(map(Path, dumped["partial"]))
        self._used.update(map(Path, dumped["used"]))
        self._counts.update(dumped["counts"])
        self._refused.update(dumped["refused"])

    def summary(self) -> list[str]:
        """Tell in lines what was replayed and recorded."""
        lines: list[str] = []
        if self._counts.total():
            lines.append(", ".join(f"{self._counts[name]} {name}" for name in sorted(self._counts)))
        for test, reason in self._refused.items():
            lines.append(f"not recorded in {test}: {reason}")
        return lines

    def unused(self) -> list[Path]:
        """Give the cassettes that no test used, where all tests that could have have passed."""
        return [
            file
            for folder, tests in sorted(self._expected.items())
            if tests <= self._finished.get(folder, set())
            and folder.parent.parent not in self.partial
            for file in sorted(folder.glob("*.json"))
            if file not in self._used
        ]
