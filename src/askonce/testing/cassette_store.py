"""A store of cassettes, for whatever asks once through a store."""

from collections.abc import Iterator, Mapping, Sequence

from askonce.core import flow
from askonce.core.entry import NEVER
from askonce.core.store import Store
from askonce.testing.cassettes import Cassette, is_for_cassettes


class CassetteStore(Store):
    """Read entries from the cassettes of a test and record what is written.

    Where nothing may be asked, a key without a cassette fails the test, unless `lenient`: then
    whoever asks next has to fail it. What a cassette has no place for is kept in memory.
    """

    def __init__(self, cassette: Cassette, *, lenient: bool = False) -> None:
        self.cassette = cassette
        self._strict = not lenient and cassette.mode == "replay"
        self._opened = flow.now()
        self._memory: dict[str, bytes] = {}
        self._deleted: set[str] = set()

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._read(key) for key in keys]

    def _read(self, key: str) -> bytes | None:
        if (blob := self._memory.get(key)) is not None:
            return blob
        if key in self._deleted:
            return None
        recorded = self.cassette.find(key)
        if recorded is None and self._strict and is_for_cassettes(key):
            self.cassette.fail_for(key)
        if recorded is None or recorded.status != 200:
            return None
        self.cassette.replayed += 1
        return recorded.pack(key, now=self._opened)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        for key, blob in entries.items():
            self._deleted.discard(key)
            if not self.cassette.keep(key, blob):
                self._memory[key] = bytes(blob)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._memory.pop(key, None)
            self._deleted.add(key)
            if self.cassette.may_record:
                self.cassette.folder.forget(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        recorded = (one.key for one in self.cassette.folder if one.status == 200)
        known = dict.fromkeys([*recorded, *self._memory])
        yield from (key for key in known if key.startswith(prefix) and key not in self._deleted)

    def close(self) -> None:
        """Do nothing: every cassette is a file of its own, and closed."""
