"""What identifies a request, and where two of them differ, in words for people."""

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_WIDTH = 100
"""How many characters of a value are shown."""


class Missing(enum.Enum):
    """Be the value of a field that is not there."""

    MISSING = enum.auto()


MISSING: Final = Missing.MISSING


@dataclass(frozen=True, slots=True)
class Difference:
    """Hold a field that two requests have different values for; MISSING where one has none."""

    path: str
    first: object
    second: object

    def shown(self) -> tuple[str, str]:
        """Give both values as JSON; of long texts, the part where they begin to differ."""
        first, second = _written(self.first), _written(self.second)
        if max(len(first), len(second)) > _WIDTH:
            same = 0
            while same < min(len(first), len(second)) and first[same] == second[same]:
                same += 1
            start = max(0, same - _WIDTH // 3)
            return _excerpt(first, start), _excerpt(second, start)
        return first, second


@dataclass(frozen=True, slots=True)
class Explanation:
    """Tell what the cache makes of a request.

    `identity` is the request with nothing but what decides its answer, `keys` are those of the
    entries it asks for, `ignored` tells of each field that decides nothing the reason, and
    `refusal` why the answer is not cached, "" if it is.
    """

    kind: str = ""
    model: str = ""
    keys: Sequence[str] = ()
    identity: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ignored: Mapping[str, str] = field(default_factory=dict[str, str])
    refusal: str = ""


def difference(first: Explanation, second: Explanation) -> list[Difference]:
    """Give all fields in which the identities of two requests differ, none if they share a key."""
    return differences(first.identity, second.identity)


def differences(first: object, second: object) -> list[Difference]:
    """Give all fields in which two values of JSON differ; 1, 1.0 and true do."""
    return list(_differences("", first, second))


def _differences(path: str, first: object, second: object) -> Iterator[Difference]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in [*first, *(name for name in second if name not in first)]:
            below = f"{path}.{name}" if path else str(name)
            yield from _differences(below, first.get(name, MISSING), second.get(name, MISSING))
    elif isinstance(first, list) and isinstance(second, list):
        for index in range(max(len(first), len(second))):
            yield from _differences(f"{path}[{index}]", _at(first, index), _at(second, index))
    elif type(first) is not type(second) or first != second:
        yield Difference(path, first, second)


def _at(values: list[Any], index: int) -> object:
    return values[index] if index < len(values) else MISSING


def _written(value: object) -> str:
    if value is MISSING:
        return "(none)"
    return json.dumps(value, ensure_ascii=False, default=str)


def _excerpt(text: str, start: int) -> str:
    cut = text[start : start + _WIDTH]
    return ("…" if start and cut else "") + cut + ("…" if start + _WIDTH < len(text) else "")
