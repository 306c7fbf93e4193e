"""What the pieces of a streamed answer add up to.

Providers stream an object as deltas of itself. Text is continued by text, lists by their next
elements, objects field by field; the rest is replaced. Null and what is missing say nothing new.
"""

from collections.abc import Mapping
from typing import Any

from askonce.errors import AnswerError
from askonce.wire.json_body import Json

WHOLE = frozenset({"id", "type", "role", "index", "object", "model", "format", "status"})
"""Names whose text is sent whole, perhaps again and again, and never continued."""


class Text:
    """Hold the pieces of one text until it is whole: adding to it does not copy it."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = list(pieces)


def add(target: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta to what is there, in place. Raises AnswerError if the two do not fit.

    The delta becomes part of the target: it is the caller's to give away.
    """
    for name, piece in delta.items():
        present = target.get(name)
        if present is None:
            target[name] = piece
        elif piece is None or (name in WHOLE and piece == ""):
            continue
        else:
            target[name] = piece if name in WHOLE else _sum(name, present, piece)


def _sum(name: str, present: Any, piece: Any) -> Any:
    match present, piece:
        case Text(), str():
            present.pieces.append(piece)
        case str(), str():
            return Text(present, piece)
        case dict(), dict():
            add(present, piece)
        case list(), list():
            _add_elements(present, piece)
        case ((int() | float()), (int() | float())):
            return piece
        case _:
            raise AnswerError(
                f"the stream continues {name!r}, of type {_type_of(present)}, "
                f"with something of type {_type_of(piece)}"
            )
    return present


def renew(target: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add what is sent anew with every piece, in place: lists grow, all else is replaced."""
    for name, value in piece.items():
        present = target.get(name)
        if isinstance(present, dict) and isinstance(value, dict):
            renew(present, value)
        elif isinstance(present, list) and isinstance(value, list):
            present.extend(value)
        elif value is not None or name not in target:
            target[name] = value


def _type_of(value: object) -> str:
    return "str" if isinstance(value, Text) else type(value).__name__


def _add_elements(present: list[Any], piece: list[Any]) -> None:
    """Continue a list: elements with a known `index` are continued, all others appended."""
    places: dict[int, int] = {}
    if any(_index_of(element) is not None for element in piece):
        for place, element in enumerate(present):
            index = _index_of(element)
            if index is not None:
                places[index] = place
    for element in piece:
        index = _index_of(element)
        if index is None or index not in places:
            present.append(element)
        else:
            present[places[index]] = _sum("index", present[places[index]], element)


def _index_of(element: object) -> int | None:
    index = element.get("index") if isinstance(element, dict) else None
    return index if isinstance(index, int) else None


def settle(value: Any) -> Any:
    """Give what was added up as plain JSON, sharing nothing with it."""
    match value:
        case Text():
            return "".join(value.pieces)
        case dict():
            return settled(value)
        case list():
            return [settle(element) for element in value]
        case _:
            return value


def settled(value: Mapping[str, Any]) -> Json:
    """Settle an object."""
    return {name: settle(member) for name, member in value.items()}
