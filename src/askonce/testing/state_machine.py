"""A store driven at random against a dict."""

import asyncio
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from askonce.core.store import Store

SEGMENTS = st.one_of(
    st.sampled_from(
        ["a", "A", "aa", "a.b", "..", ".", "%", "%2F", "a%", "_", "*", "a:b", " ", "é"]
    ),
    st.text(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"),
        min_size=1,
        max_size=8,
    ),
)
"""Parts of keys. All keys have two, so that none is the start of another up to a slash."""

PREFIXES = st.one_of(st.just(""), SEGMENTS, SEGMENTS.map("{}/".format))
VALUES = st.binary(max_size=40)
BLOCKING = st.booleans()


class StoreMachine(RuleBasedStateMachine):
    """Do to a store what is done to a dict, in both colours, and compare after every step."""

    def __init__(self, opener: Callable[[], Store]) -> None:
        super().__init__()
        self._opener = opener
        self._runner = asyncio.Runner()
        self.store = opener()
        self.model: dict[str, bytes] = {}
        self.pool: list[str] = []

    @initialize(parts=st.lists(st.tuples(SEGMENTS, SEGMENTS), min_size=2, max_size=8, unique=True))
    def begin(self, parts: Sequence[tuple[str, str]]) -> None:
        """Start empty, with a few keys that will be met again and again."""
        self.pool = [f"{first}/{second}" for first, second in parts]
        self.store.clear("")

    @rule(data=st.data(), blocking=BLOCKING)
    def write(self, data: st.DataObject, blocking: bool) -> None:  # noqa: FBT001
        """Write a batch, new keys and old ones."""
        entries = data.draw(st.dictionaries(st.sampled_from(self.pool), VALUES, max_size=5))
        self.model.update(entries)
        if blocking:
            self.store.write(entries)
        else:
            self._runner.run(self.store.awrite(entries))

    @rule(data=st.data(), blocking=BLOCKING)
    def read(self, data: st.DataObject, blocking: bool) -> None:  # noqa: FBT001
        """Read a batch, with repetitions and missing keys."""
        wanted = data.draw(st.lists(st.sampled_from(self.pool), max_size=8))
        assert self._read(wanted, blocking=blocking) == list(map(self.model.get, wanted))

    @rule(data=st.data(), blocking=BLOCKING)
    def delete(self, data: st.DataObject, blocking: bool) -> None:  # noqa: FBT001
        """Delete a batch, with repetitions and missing keys."""
        wanted = data.draw(st.lists(st.sampled_from(self.pool), max_size=3))
        for key in wanted:
            self.model.pop(key, None)
        if blocking:
            self.store.delete(wanted)
        else:
            self._runner.run(self.store.adelete(wanted))

    @rule(prefix=PREFIXES, blocking=BLOCKING)
    def clear(self, prefix: str, blocking: bool) -> None:  # noqa: FBT001
        """Delete what starts with a prefix."""
        gone = {key for key in self.model if key.startswith(prefix)}
        if blocking:
            count = self.store.clear(prefix)
        else:
            count = self._runner.run(self.store.aclear(prefix))
        assert count == len(gone)
        for key in gone:
            del self.model[key]

    @rule(prefix=PREFIXES, blocking=BLOCKING)
    def list_keys(self, prefix: str, blocking: bool) -> None:  # noqa: FBT001
        """List what starts with a prefix."""
        assert self._keys(prefix, blocking=blocking) == sorted(
            key for key in self.model if key.startswith(prefix)
        )

    @rule(blocking=st.booleans())
    def keep_in_shape(self, *, blocking: bool) -> None:
        """Do all that is done for a store's upkeep, of which nothing may show here."""
        if blocking:
            self.store.prune(0.0)
            self.store.evict()
            self.store.vacuum()
        else:
            self._runner.run(self.store.aprune(0.0))
            self._runner.run(self.store.aevict())
            self._runner.run(self.store.avacuum())

    @rule()
    def reopen(self) -> None:
        """Go on with another instance of the same store."""
        previous, self.store = self.store, self._opener()
        if previous is not self.store:
            previous.close()

    @invariant()
    def is_the_dict(self) -> None:
        """Compare everything with the dict, in both colours."""
        for blocking in (True, False):
            assert self._keys("", blocking=blocking) == sorted(self.model)
            found = self._read(self.pool, blocking=blocking)
            assert found == list(map(self.model.get, self.pool))

    def teardown(self) -> None:
        """Leave the store empty."""
        another = self._opener()
        another.clear("")
        self._runner.close()
        if another is not self.store:
            self.store.close()
            another.close()

    def _read(self, keys: Sequence[str], *, blocking: bool) -> list[bytes | None]:
        return self.store.read(keys) if blocking else self._runner.run(self.store.aread(keys))

    def _keys(self, prefix: str, *, blocking: bool) -> list[str]:
        async def listed() -> list[str]:
            return [key async for key in self.store.akeys(prefix)]

        return sorted(self.store.keys(prefix) if blocking else self._runner.run(listed()))


def run_store_machine(opener: Callable[[], Store], *, examples: int = 20, steps: int = 15) -> None:
    """Drive the store that `opener` opens. It is emptied before and after each example."""

    class Opened(StoreMachine):
        def __init__(self) -> None:
            super().__init__(opener)

    run_state_machine_as_test(
        Opened,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
