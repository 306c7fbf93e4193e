"""Requests of late: who repeats one, byte for byte, is answered at once if the answer is kept."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from askonce.http.known import Known
from askonce.observe.prometheus import Metrics

Asked = tuple[bytes, bytes, bytes, str, tuple[tuple[bytes, bytes], ...]]
"""Path, query, body, the key's identifier and all headers."""

_MOST: Final = 1024
_LONGEST: Final = 16 << 10


@dataclass(slots=True)
class Recall:
    """Hold a request that is known, whose credential it carries, and how often it was a hit."""

    known: Known
    digest: str
    route: str
    models: tuple[str, ...]
    seconds: list[float] = field(default_factory=list[float])


@dataclass
class Remembered:
    """Remember the last requests whose answers were kept, and count hits a second at a time."""

    metrics: Metrics
    _recalls: OrderedDict[Asked, Recall] = field(default_factory=OrderedDict[Asked, Recall])
    _counted: dict[int, Recall] = field(default_factory=dict[int, Recall])

    def find(self, asked: Asked) -> Recall | None:
        """Give what is known of a request."""
        recall = self._recalls.get(asked)
        # Who comes last does not matter before there is too little room.
        if recall is not None and len(self._recalls) > _MOST // 2:
            self._recalls.move_to_end(asked)
        return recall

    def keep(self, asked: Asked, recall: Recall) -> None:
        """Remember a request, unless it is long."""
        path, query, body, _, headers = asked
        length = len(path) + len(query) + len(body)
        if length + sum(len(name) + len(value) for name, value in headers) > _LONGEST:
            return
        self._recalls[asked] = recall
        if len(self._recalls) > _MOST:
            self._recalls.popitem(last=False)

    def count(self, recall: Recall, seconds: float) -> None:
        """Count a hit that took so long; the metrics hear of it at the next flush."""
        recall.seconds.append(seconds)
        self._counted[id(recall)] = recall

    def flush(self) -> None:
        """Tell the metrics what was counted."""
        counted, self._counted = self._counted, {}
        for recall in counted.values():
            times, recall.seconds = recall.seconds, []
            if event := recall.known.hit():
                self.metrics.count(event, recall.route, times=len(times))
            self.metrics.requests(route=recall.route, status=200, outcome="hit", count=len(times))
            self.metrics.answered_in(route=recall.route, outcome="hit", seconds=times)
