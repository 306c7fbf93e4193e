"""Telling the texts that make a batch fail from a model that fails with any."""

from collections.abc import Callable, Sequence
from typing import Any

from askonce.core.vectors import Vectors, rows_of
from askonce.providers.refusals import InputRefusedError

PLAIN = "text"
"""What any model can embed."""

_ENOUGH_FAILED = 3
_HOPELESS = frozenset({401, 403, 404})

Embed = Callable[[list[str]], Any]


def is_hopeless(error: Exception) -> bool:
    """Tell whether a model fails for a reason that no other text will change."""
    return getattr(error, "status_code", None) in _HOPELESS


def answers(embed: Embed) -> bool:
    """Find out whether the model answers at all."""
    try:
        embed([PLAIN])
    except Exception:  # noqa: BLE001  that is what was asked
        return False
    return True


def embed_each(embed: Embed, texts: Sequence[str]) -> list[Vectors | Exception]:
    """Embed as many of the texts as can be, asking for halves of what fails.

    A text that fails alone is refused with the model's words. If texts fail alone, none is
    answered and a plain word neither, all have the model's error.
    """
    outcomes: dict[int, Vectors | Exception] = {}
    parts = [range(len(texts))]
    failed = 0
    answered = False
    while parts:
        part = parts.pop()
        try:
            rows = rows_of(embed([texts[index] for index in part]), len(part))
        except Exception as error:  # noqa: BLE001  it is the outcome of these texts
            if is_hopeless(error):
                return [outcomes.get(index, error) for index in range(len(texts))]
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            failed += 1
            if not answered and (failed == _ENOUGH_FAILED or not parts):
                answered = answers(embed)
                if not answered:
                    return [error] * len(texts)
            refused = InputRefusedError(part[0], f"{type(error).__name__}: {error}")
            refused.__cause__ = error
            outcomes[part[0]] = refused
        else:
            answered = True
            outcomes.update(zip(part, rows, strict=True))
    return [outcomes[index] for index in range(len(texts))]
