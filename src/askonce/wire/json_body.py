"""Bodies as JSON that every reader must read alike, else they are not read at all."""

import json
import math
from typing import Any

from askonce.errors import InputError

Json = dict[str, Any]
"""A JSON object, as a body is."""

MAX_DEPTH = 128
"""Levels of nesting: far more than requests have, far less than Python's own limit."""

MAX_LENGTH = 64 * 2**20
"""Bytes of a body that are looked at."""

_CONTAINERS = frozenset({dict, list})


def parse_body(body: bytes) -> Json:
    """Read a body that is one JSON object.

    Raises InputError, whose message is the reason, for whatever two readers could read
    differently: a name given twice, NaN and infinity, a number too large for a float, text that
    is not UTF-8; and for what is too long, nested too deeply or not an object.
    """
    if len(body) > MAX_LENGTH:
        raise InputError(f"the body is longer than {MAX_LENGTH // 2**20} MiB")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        value: object = _DECODER.decode(text)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"the body is a JSON {_name_of(value)}, not an object")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deep(value):
        raise InputError(f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def write_body(value: object) -> bytes:
    r"""Write JSON in ASCII, in one line.

    Without raw U+2028 and the like, so that no client can split a line of events there.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def canonical_body(value: object) -> bytes:
    """Write what `parse_body` read so that equal values, and no others, have equal bytes.

    The order of names does not matter; 1, 1.0 and true differ.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False, sort_keys=True).encode()


def _members(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the name {twice!r} is given twice in one object")
    return members


def _not_json(constant: str) -> object:
    raise InputError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise InputError(f"the number {digits[:40]} is too large for a float")
    return number


# Made once: json.loads would make one for each body.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_not_json, parse_float=_finite
)


def _name_of(value: object) -> str:
    names: dict[type, str] = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for container in level:
            children = container.values() if isinstance(container, dict) else container
            # A list of a million numbers is passed over without a look at each in Python.
            if not _CONTAINERS.isdisjoint(map(type, children)):  # type: ignore[call-overload]
                below.extend(child for child in children if type(child) in _CONTAINERS)  # type: ignore[attr-defined]
        if not below:
            return False
        level = below
    return True
