"""The inputs of one embedding call: what is different, under which keys, and where it belongs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np

from askonce.core import entry
from askonce.core.keys import Subject, utf8_each
from askonce.core.vectors import Indices
from askonce.errors import InputTypeError

Names = Callable[[Sequence[Any]], list[str]]


class Inputs:
    """Hold the different items of one call with their keys, as far as they have been taken in.

    `positions` leads from the caller's order to these items. `spare_keys` are used where a key
    turns out to hold an entry of another item or model.
    """

    def __init__(
        self,
        items: Sequence[Any],
        subject: Subject,
        digest: Callable[[slice], list[bytes]],
        name_keys: Names | None = None,
    ) -> None:
        self.subject = subject
        self.items: list[Any] = []
        self.keys: list[str] = []
        self.spare_keys: list[str] | None = [] if name_keys else None
        self._given = items
        self._digest = digest
        self._name_keys = name_keys
        self._named: set[str] = set()
        self._places: dict[bytes, int] = {}
        self._taken = 0
        self._bindings: entry.Words = np.empty(len(items), np.uint64)
        self._positions: Indices = np.empty(len(items), np.intp)

    @classmethod
    def begin(cls, texts: Sequence[str], subject: Subject, name_keys: Names | None = None) -> Self:
        """Prepare to take in texts. Raises InputTypeError for what is no list; see `take_in`."""
        refuse_one_string(texts)
        try:
            given = list(texts)
        except TypeError:
            raise _not_strings(texts) from None

        def digest(some: slice) -> list[bytes]:
            try:
                return _digests(given[some], subject)
            except TypeError:
                raise _not_strings(given) from None

        return cls(given, subject, digest, name_keys)

    @classmethod
    def of(cls, texts: Sequence[str], subject: Subject, name_keys: Names | None = None) -> Self:
        """Take in texts, all of them. Raises InputTypeError for anything but strings."""
        inputs = cls.begin(texts, subject, name_keys)
        inputs.take_in_all()
        return inputs

    @classmethod
    def of_contents(cls, contents: Sequence[bytes], items: Sequence[Any], subject: Subject) -> Self:
        """Take in items, whose keys are named by their contents; the model is asked for the items.

        All of them are taken in.
        """
        inputs = cls(items, subject, lambda some: subject.digests(contents[some]))
        inputs.take_in_all()
        return inputs

    @property
    def given(self) -> int:
        """Tell how many items there are, equal ones too."""
        return len(self._given)

    @property
    def left(self) -> int:
        """Tell how many of them have not been taken in."""
        return len(self._given) - self._taken

    @property
    def positions(self) -> Indices:
        """Give the place of each item that was taken in, in the caller's order."""
        return self._positions[: self._taken]

    @property
    def bindings(self) -> entry.Words:
        """Give the bindings of the different items."""
        return self._bindings[: len(self.keys)]

    @property
    def room(self) -> entry.Words:
        """Give the bindings of as many items as there can be; those to come hold anything."""
        return self._bindings

    def take_in_all(self) -> None:
        """Take in all that are left."""
        self.take_in(self.left)

    def take_in(self, count: int) -> Indices:
        """Digest the next items and name their keys; give the places of those that are new.

        Raises InputTypeError for anything but strings where there should be texts.
        """
        taken = slice(self._taken, self._taken + min(count, self.left))
        items = self._given[taken]
        digests = self._digest(taken)
        first = len(self.keys)
        fresh = dict.fromkeys(digests)
        if len(fresh) == len(digests) and self._places.keys().isdisjoint(fresh):
            self._positions[taken] = np.arange(first, first + len(digests))
        else:
            firsts = dict(zip(reversed(digests), reversed(items), strict=True))
            fresh = dict.fromkeys(each for each in fresh if each not in self._places)
            items = [firsts[each] for each in fresh]
        new = range(first, first + len(fresh))
        if len(fresh) != len(digests) or taken.stop < len(self._given):
            self._places.update(zip(fresh, new, strict=True))
        if len(fresh) != len(digests):
            places = map(self._places.__getitem__, digests)
            self._positions[taken] = np.fromiter(places, np.intp, len(digests))
        self._taken = taken.stop
        self._bindings[first : first + len(fresh)] = np.frombuffer(b"".join(fresh), "<u8")[::4]
        self.items += items
        self._name(items, self.subject.keys(fresh))
        return np.arange(first, first + len(fresh))

    def _name(self, items: Sequence[Any], own: list[str]) -> None:
        """Give a spare key to every item whose key is taken by an earlier item."""
        if self._name_keys is None or self.spare_keys is None:
            self.keys += own
            return
        for key, spare in zip(self._name_keys(items), own, strict=True):
            self.keys.append(spare if key in self._named else key)
            self._named.add(key)
        self.spare_keys += own

    def give_way(self, foreign: Indices) -> None:
        """Leave keys to the entries that are there, and use the spare ones."""
        if self.spare_keys is not None:
            for place in foreign.tolist():
                self.keys[place] = self.spare_keys[place]


def refuse_one_string(texts: object) -> None:
    """Raise InputTypeError where one string was given for a list of them."""
    if isinstance(texts, str | bytes):
        raise InputTypeError("texts is one string; give a list of strings, like [text]")


def _digests(texts: Sequence[str], subject: Subject) -> list[bytes]:
    try:
        return subject.digests(map(str.encode, texts))
    except UnicodeEncodeError:  # lone surrogates; to allow for them costs the others time
        return subject.digests(utf8_each(texts))


def _not_strings(texts: object) -> InputTypeError:
    if not isinstance(texts, Iterable):
        return InputTypeError(f"texts is a {type(texts).__qualname__}; give a list of strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            return InputTypeError(
                f"texts[{index}] is a {type(text).__qualname__}; only strings can be embedded"
            )
    return InputTypeError("texts is not a list of strings")
