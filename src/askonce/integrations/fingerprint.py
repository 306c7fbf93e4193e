"""What tells one embedding model from another: its name, dimensions and chosen settings."""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

MODEL_NAMES = (
    "model",
    "model_name",
    "model_id",
    "deployment",
    "deployment_name",
    "azure_deployment",
    "endpoint_name",
    "repo_id",
    "model_path",
)
DIMENSION_NAMES = (
    "dimensions",
    "dimension",
    "dims",
    "dim",
    "size",
    "embedding_size",
    "embedding_dimension",
    "output_dimensionality",
    "truncate_dim",
    "vector_size",
)

_IGNORED = (
    "key keys secret secrets token password passwords credential credentials auth authorization",
    "client clients session http limiter headers header proxy proxies organization user users",
    "timeout retry retries retryable batch chunk concurrency parallel worker workers thread",
    "threads process progress verbose callbacks metadata tags cache cookie device devices gpu",
)
IGNORED_WORDS = frozenset(word for line in _IGNORED for word in line.split())
"""A setting with one of these words in its name is how a model is reached, not what it answers."""

IGNORED_NAMES = frozenset({"keep_alive", "api_version", "openai_api_version", "openai_api_type"})

_WORD_ENDS = re.compile(r"[_-]")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True)
class Fingerprint:
    """Hold what identifies a model; `dimensions` is what it says of itself, if anything."""

    model: str
    parameters: Mapping[str, object]
    dimensions: int | None


def fingerprint(model: object, settings: Iterable[str] = ()) -> Fingerprint:
    """Find out which model this is.

    Counts its name, its dimensions, the attributes named as `settings` and, where it is a pydantic
    model, the settings that were made; its class only where it has no name. No key, token or
    password is ever looked at.
    """
    found = {name: _attribute(model, name) for name in (*MODEL_NAMES, *DIMENSION_NAMES)}
    names = (found[name] for name in MODEL_NAMES)
    name = next((name for name in names if isinstance(name, str) and name), "")
    sizes = {
        name: size
        for name in DIMENSION_NAMES
        if isinstance(size := found[name], int) and not isinstance(size, bool) and size > 0
    }
    kind = type(model)
    return Fingerprint(
        model=_without_user(name) or f"{kind.__module__}.{kind.__qualname__}",
        parameters=_made(model, but_not=name) | _kept(model, settings, but_not=name) | sizes,
        dimensions=next(iter(sizes.values()), None),
    )


def _made(model: object, *, but_not: str) -> dict[str, object]:
    if not isinstance(model, BaseModel):
        return {}
    fields = type(model).model_fields
    names = (
        name
        for name in model.model_fields_set
        if name not in fields or _attribute(model, name) != fields[name].default
    )
    return _kept(model, names, but_not=but_not)


def _kept(model: object, names: Iterable[str], *, but_not: str) -> dict[str, object]:
    kept: dict[str, object] = {}
    for name in names:
        value = _attribute(model, name)
        if not is_ignored(name) and value != but_not and (part := plain(value)) is not None:
            kept[name] = part
    return kept


def is_ignored(name: str) -> bool:
    """Tell whether a setting, or a header, is how a model is reached, not what it answers."""
    words = _WORD_ENDS.split(name.lower())
    return name in IGNORED_NAMES or not IGNORED_WORDS.isdisjoint(words)


def plain(value: object) -> object:
    """Reduce a setting to what has a stable content; None if nothing of it has."""
    if isinstance(value, str):
        return _without_user(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        items = {str(name): plain(part) for name, part in value.items()}
        kept = {n: part for n, part in items.items() if part is not None and not is_ignored(n)}
        return kept or None
    if isinstance(value, AbstractSet):
        return plain(sorted(map(str, value)))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [part for part in map(plain, value) if part is not None] or None
    return None


def _without_user(text: str) -> str:
    return _USER_INFO.sub("", text)


def _attribute(model: object, name: str) -> Any:
    try:
        return getattr(model, name, None)
    except Exception:  # noqa: BLE001  a property may fail with anything; then there is no name
        return None
