"""A flow as a conversation: it says what it needs, the test answers."""

from collections.abc import Generator, Mapping
from typing import Any

from askonce.core import flow as steps


class Talk:
    """Hold one flow and what it said last; `result` is there once it has ended."""

    def __init__(self, flow: Generator[steps.Step, Any, Any]) -> None:
        self.flow = flow
        self.result: Any = None
        self.ended = False
        self.said: steps.Step | None = None
        self._go(lambda: next(flow))

    def answer(self, outcome: Any = None) -> None:
        assert not self.ended
        self._go(lambda: self.flow.send(outcome))

    def fail(self, error: BaseException) -> None:
        assert not self.ended
        self._go(lambda: self.flow.throw(error))

    def expect(self, kind: type) -> Any:
        assert isinstance(self.said, kind), self.said
        return self.said

    def until(self, kind: type, stored: dict[str, bytes], told: list | None = None) -> Any:
        """Serve reads, writes and claims from a dict until the flow says something of a kind."""
        while not self.ended and not isinstance(self.said, kind):
            match self.said:
                case steps.Read(keys):
                    self.answer(list(map(stored.get, keys)))
                case steps.Begin(keys):
                    self.answer(list(map(stored.get, keys)))
                case steps.Finish(reading):
                    self.answer(reading)
                case steps.Write(entries):
                    stored.update(entries)
                    self.answer(True)
                case steps.Claim(keys):
                    self.answer(list(keys))
                case steps.Tell(event):
                    if told is not None:
                        told.append((event.kind, event.count))
                    self.answer()
                case steps.Release() | steps.Pause():
                    self.answer()
                case _:
                    raise AssertionError(f"unexpected: {self.said}")
        return self.said

    def to_the_end(
        self, stored: Mapping[str, bytes] | None = None, told: list | None = None
    ) -> Any:
        self.until(Never, {} if stored is None else stored, told)
        return self.result

    def _go(self, step: Any) -> None:
        try:
            self.said = step()
        except StopIteration as end:
            self.said, self.result, self.ended = None, end.value, True


class Never:
    """Be what no flow says."""
