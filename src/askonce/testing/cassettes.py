"""Cassettes: what is recorded in a folder, and what one test makes of it."""

import difflib
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NoReturn, get_args

import pytest

from askonce import explain
from askonce.core.keys import Subject
from askonce.errors import AskonceError
from askonce.events import Event, log
from askonce.testing import cassette_file
from askonce.testing.cassette_answers import Json
from askonce.testing.cassette_file import Recorded

Mode = Literal["replay", "record", "auto", "off"]
MODES: Final[tuple[str, ...]] = get_args(Mode)

_REMEMBERED = 100_000
_OF_ONE_RUN = re.compile(r"[^/]+/tag/|~askonce/")


def is_for_cassettes(key: str) -> bool:
    """Tell whether an entry means anything in another run: epochs of tags, for one, do not."""
    return not _OF_ONE_RUN.match(key)


class Witnessed:
    """Remember what the latest keys stand for."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[Subject, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def see(self, subject: Subject, contents: Collection[bytes], digests: Sequence[bytes]) -> None:
        """Take note of some digests; see `keys.witnessed`."""
        with self._lock:
            for content, digest in zip(contents, digests, strict=True):
                self._seen[digest.hex()] = (subject, content)
                self._seen.move_to_end(digest.hex())
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def request_of(self, key: str) -> Json:
        """Tell the request that a key stands for."""
        with self._lock:
            subject, content = self._seen.get(key.rpartition("/")[2], (None, b""))
        return cassette_file.identify(key, subject, content)


class Folder:
    """Hold the cassettes in one folder, by the key of what they answer.

    `used` are the files that some test asked for, `fresh` those recorded in this session.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: set[Path] = set()
        self.fresh: set[Path] = set()
        self._cassettes: dict[str, tuple[Path, Recorded]] = {}
        self._lock = threading.Lock()
        for file in sorted(path.glob("[!.]*.json")):
            recorded = _read(file)
            self._cassettes.setdefault(recorded.key, (file, recorded))

    def __iter__(self) -> Iterator[Recorded]:
        with self._lock:
            return iter([recorded for _, recorded in self._cassettes.values()])

    def find(self, key: str) -> tuple[Path, Recorded] | None:
        """Give the cassette of a key."""
        with self._lock:
            return self._cassettes.get(key)

    def look_again(self, recorded: Recorded) -> tuple[Path, Recorded] | None:
        """Give the cassette that another process may have written since."""
        file = self.path / cassette_file.name_of(recorded)
        if not file.exists():
            return None
        there = _read(file)
        if there.key != recorded.key:
            return None
        with self._lock:
            return self._cassettes.setdefault(recorded.key, (file, there))

    def keep(self, recorded: Recorded) -> None:
        """Write a cassette, over the one of the same key if there is one."""
        with self._lock:
            file, _ = self._cassettes.get(recorded.key, (None, None))
            file = file or self.path / cassette_file.name_of(recorded)
            self._cassettes[recorded.key] = (file, recorded)
            self.used.add(file)
            self.fresh.add(file)
        self.path.mkdir(parents=True, exist_ok=True)
        # Another process may write the same: whoever comes last wins, and no one sees a half.
        temporary = file.with_name(f".{os.getpid()}-{threading.get_ident()}-{file.name}")
        temporary.write_bytes(cassette_file.write(recorded))
        temporary.replace(file)

    def forget(self, key: str) -> None:
        """Delete the cassette of a key."""
        with self._lock:
            file, _ = self._cassettes.pop(key, (None, None))
        if file is not None:
            file.unlink(missing_ok=True)

    def nearest(self, request: Json) -> tuple[Path, list[explain.Difference]] | None:
        """Give the file whose request is most like this one, and where the two differ."""
        with self._lock:
            known = list(self._cassettes.values())
        found = [(file, explain.differences(one.request, request)) for file, one in known]
        return min(found, key=lambda one: sum(map(_distance, one[1])), default=None)


def _read(file: Path) -> Recorded:
    try:
        return cassette_file.read(file.read_text("utf-8"))
    except (AskonceError, UnicodeDecodeError) as error:
        pytest.fail(f"the cassette {file} is damaged: {error}. Mend it or delete it", pytrace=False)


def _distance(difference: explain.Difference) -> float:
    first, second = difference.first, difference.second
    if isinstance(first, str) and isinstance(second, str):
        matcher = difflib.SequenceMatcher(None, first[:500], second[:500], autojunk=False)
        return 1 - matcher.quick_ratio() / 2
    # A list or an object that is missing weighs as much as all that is in it.
    return max(1.0, len(json.dumps([first, second], default=str)) / 50)


@dataclass
class Cassette:
    """Be the cassettes of one test: those in `folder`, used as `mode` says.

    `errors` records answers other than 200, too; `timing` replays streams as slowly as they came.
    """

    folder: Folder
    mode: Mode
    witnessed: Witnessed
    test: str = ""
    errors: bool = False
    timing: bool = False
    replayed: int = 0
    recorded: int = 0
    failures: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])
    delays: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def may_record(self) -> bool:
        """Tell whether what is asked for is to be recorded."""
        return self.mode in ("record", "auto")

    def find(self, key: str) -> Recorded | None:
        """Give what is recorded for a key, as far as the mode lets it be replayed."""
        if self.mode == "off" or not is_for_cassettes(key):
            return None
        found = self.folder.find(key) or self._find_otherwise(key)
        if found is None or (self.mode == "record" and found[0] not in self.folder.fresh):
            return None
        self.folder.used.add(found[0])
        return found[1]

    def find_error(self, key: str) -> Recorded | None:
        """Give a recorded answer that is none, unless it was recorded just now: to ask again."""
        found = self.find(key)
        if found is None or found.status == 200:
            return None
        place = self.folder.find(found.key)
        return None if place is None or place[0] in self.folder.fresh else found

    def _find_otherwise(self, key: str) -> tuple[Path, Recorded] | None:
        request = self.witnessed.request_of(key)
        plain = Recorded(cassette_file.key_of(request), request, {}, {})
        if plain.key != key and (found := self.folder.find(plain.key)):
            return found
        return self.folder.look_again(plain) if self.mode == "auto" else None

    def keep(self, key: str, blob: bytes) -> bool:
        """Record an entry; tell whether that is for cassettes to keep."""
        if self.mode == "off":
            return True
        if self.mode == "replay" or not is_for_cassettes(key):
            return False
        recorded = cassette_file.record(self.witnessed.request_of(key), blob)
        if delays := self.delays.pop(key, None):
            recorded.meta["delays"] = [round(delay, 4) for delay in delays]
        self.folder.keep(recorded)
        self.recorded += 1
        return True

    def observe(self, event: Event) -> None:
        """Take note of what the cache would not keep, and so is not recorded."""
        log(event)
        if event.kind == "refused" and event.reason and self.may_record and not self.errors:
            self.refused.append(event.reason)

    def keep_error(self, recorded: Recorded) -> None:
        """Record an answer that is none."""
        self.folder.keep(recorded)
        self.recorded += 1

    def fail_for(self, key: str) -> NoReturn:
        """Fail the test because nothing is recorded for a key."""
        self.fail(self.witnessed.request_of(key))

    def fail(self, request: Json, *, reason: str = "no cassette answers this request") -> NoReturn:
        """Fail the test at once, with the recorded request that is most like this one."""
        lines = [f"askonce: {reason}", f"  {_title(request)}"]
        nearest = self.folder.nearest(request)
        if nearest is None:
            lines.append(f"There are no cassettes in {_short(self.folder.path)}.")
        else:
            file, differences = nearest
            lines.append(f"The nearest is {_short(file)}, which differs first in")
            for one in differences[:1]:
                recorded, asked = one.shown()
                lines += [f"  {one.path}", f"    recorded: {recorded}", f"    asked:    {asked}"]
            if others := [one.path for one in differences[1:6]]:
                more = len(differences) - 1 - len(others)
                lines.append(f"and in {', '.join(others)}{f' and {more} more' if more else ''}")
        lines.append(f"To record it: pytest --askonce=auto '{self.test}'")
        self.failures.append("\n".join(lines))
        pytest.fail(self.failures[-1], pytrace=False)


def _title(request: Json) -> str:
    if "url" in request:
        about, said = f"{request['method']} {request['url']}", request.get("body", "")
    else:
        about = f"{request.get('kind', '')} {request.get('model', '')}".strip()
        said = request.get("text") or request.get("content") or request.get("key")
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return f"{about}\n  {text[:400]}{'…' if text[400:] else ''}".rstrip()


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
