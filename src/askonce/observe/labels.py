"""Labels of metrics, few enough to be counted by, whatever callers send."""

from typing import Final

OTHER: Final = "other"

_LONGEST: Final = 100


class Names:
    """Hold the values that one label has had, `most` at most; any further one is "other".

    Half of the room is kept for the proven ones. Who may send any name at all can fill the other
    half, but not hide those for which a provider has answered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known = {""}

    def bounded(self, name: str, *, proven: bool = True) -> str:
        """Give the name, or "other" if there is no room for it or it is not fit to be shown."""
        if name in self._known:
            return name
        # Half of a surrogate pair, which JSON may hold, would make the whole page unreadable.
        if len(name) > _LONGEST or not name.isprintable():
            return OTHER
        # The empty name takes no room.
        if len(self._known) > (self._most if proven else self._most // 2):
            return OTHER
        self._known.add(name)
        return name
