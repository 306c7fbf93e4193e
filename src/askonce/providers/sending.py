"""One request to an /embeddings endpoint, sent until it is answered or asking again is no use.

Tenacity repeats, and nothing else does: the SDK's own retries are off. (Stamina, which is built
on it, has no injectable sleep; here a wait must end early when the call is over.)
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from askonce.errors import AnswerError
from askonce.providers.answers import Rows, read_rows
from askonce.providers.asking import Asking, Request
from askonce.providers.pace import Pace
from askonce.providers.refusals import is_transient, retry_after

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from tenacity import RetryCallState


@dataclass
class Sender:
    """Hold how requests are put and repeated, and what was learned from the answers."""

    model: str
    dimensions: int | None
    extra_body: Mapping[str, object]
    timeout: float
    attempts: int
    backoff: float
    max_wait: float
    pace: Pace
    tokens_used: int = 0
    _length: dict[str, int] = field(default_factory=dict[str, int])
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def length(self) -> int:
        """Tell how long the model's vectors are; 0 if that is not known yet."""
        return self.dimensions or self._length.get(self.model, 0)

    def send(
        self, request: Request, asking: Asking, bell: threading.Event, client: "OpenAI"
    ) -> Rows | Exception:
        """Give the rows of a request's texts, or the error that asking again does not mend."""
        from tenacity import Retrying  # noqa: PLC0415  an extra

        def nap(seconds: float) -> None:
            bell.wait(seconds)

        def attempt() -> Rows:
            nap(self.pace.reserve(now=time.monotonic()))
            _go_on(asking)
            answer = client.post(**self._post(request, asking))
            return self._rows(answer.content, request)

        try:
            return Retrying(**self._patience(asking), sleep=nap)(attempt)
        except Exception as error:  # noqa: BLE001  it is the outcome of these texts
            return error

    async def asend(
        self, request: Request, asking: Asking, bell: asyncio.Event, client: "AsyncOpenAI"
    ) -> Rows | Exception:
        """Send without blocking the event loop; see `send`."""
        from tenacity import AsyncRetrying  # noqa: PLC0415  an extra

        async def nap(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), seconds)

        async def attempt() -> Rows:
            await nap(self.pace.reserve(now=time.monotonic()))
            _go_on(asking)
            answer = await client.post(**self._post(request, asking))
            return self._rows(answer.content, request)

        try:
            return await AsyncRetrying(**self._patience(asking), sleep=nap)(attempt)
        except Exception as error:  # noqa: BLE001  it is the outcome of these texts
            return error

    def _patience(self, asking: Asking) -> dict[str, Any]:
        from tenacity import retry_if_exception, wait_random_exponential  # noqa: PLC0415

        backoff = wait_random_exponential(multiplier=self.backoff, max=self.max_wait)

        def wait(state: "RetryCallState") -> float:
            error = state.outcome.exception() if state.outcome else None
            seconds = retry_after(error, now=time.time()) if error else None
            if seconds is None:
                return backoff(state)
            self.pace.pause(seconds, now=time.monotonic())
            return seconds

        def is_over(state: "RetryCallState") -> bool:
            return state.attempt_number >= self.attempts or asking.halted is not None

        return {
            "retry": retry_if_exception(self._is_worth_another),
            "stop": is_over,
            "wait": wait,
            "reraise": True,
        }

    def _is_worth_another(self, error: BaseException) -> bool:
        if isinstance(error, import_module("openai").APIConnectionError):
            return True
        asked = retry_after(error, now=time.time())
        return is_transient(error) and (asked is None or asked <= self.max_wait)

    def _post(self, request: Request, asking: Asking) -> dict[str, Any]:
        body: dict[str, object] = {
            "model": self.model,
            "input": [asking.texts[index] for index in request.part],
        }
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        if request.format != "unsaid":
            body["encoding_format"] = request.format
        # The SDK's own method always says a format, and makes a list of floats of every vector.
        return {
            "path": "/embeddings",
            "body": body | dict(self.extra_body),
            "cast_to": import_module("httpx2").Response,
            "options": {"max_retries": 0, "timeout": self.timeout},
        }

    def _rows(self, body: bytes, request: Request) -> Rows:
        rows, tokens = read_rows(body, len(request.part))
        with self._counting:
            self.tokens_used += tokens
        found = rows.shape[1]
        expected = self.dimensions or self._length.setdefault(self.model, found)
        if found != expected:
            raise AnswerError(
                f"the model {self.model!r} answered with vectors of {found} dimensions, "
                f"but {expected} {'were asked for' if self.dimensions else 'before'}"
            )
        return rows


def _go_on(asking: Asking) -> None:
    if asking.halted is not None:
        raise asking.halted
