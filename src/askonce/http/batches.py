"""How a batch of embeddings is answered: input by input, only the missing ones asked for."""

from typing import Any, Final

from askonce.core.flow import Call
from askonce.errors import AnswerError
from askonce.http import passing
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Batch
from askonce.http.passing import Headers
from askonce.http.steps import Answering, Close, Drain, Library, Send
from askonce.wire import Json, openai_embeddings, parse_body, write_body

_TELLS_PLACES: Final = frozenset({400, 413, 422})
"""Of what is wrong with a request the caller must hear as if all its inputs had been sent."""


class _PassedThrough(Exception):  # noqa: N818  it carries a response out of a flow, no error
    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


class Batching:
    """Answer one batch; gather what the provider says on the way."""

    def __init__(self, cache: HTTPCache, library: Library, content: bytes, batch: Batch) -> None:
        self._cache = cache
        self._library = library
        self._content = content
        self._batch = batch
        self._responses: list[Json] = []
        self._headers: dict[str, str] = {}
        self._whole: Any = None

    def answer(self) -> Answering:
        """Answer from what is there and what the provider says to the rest."""
        try:
            rows = yield from self._vectors()
        except _PassedThrough as passed:
            return passed.response
        except AnswerError as error:
            # The provider contradicts itself: what it says to the whole batch is the answer.
            response = yield Call(Send(self._content, self._batch.inputs.keys))
            passing.add_status(response, passing.forwarded("bypass", detail=str(error)))
            return response
        if rows is None:
            status, headers, body = passing.not_cached()
            return self._library.reply(status, headers, [body])
        if self._whole is not None and len(self._responses) == 1:
            return self._whole
        headers, body = self._reply(rows)
        return self._library.reply(200, headers, [body])

    def _vectors(self) -> Answering:
        """Run the flow of embeddings, with a request where it calls for the model."""
        steps = self._cache.embedding(self._batch)
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Call):
                        outcome = yield from self._ask([int(place) for place in step.argument])
                    else:
                        outcome = yield step
                except BaseException as error:  # noqa: BLE001  it is the inner flow's to handle
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            return end.value

    def _ask(self, places: list[int]) -> Answering:
        """Ask for some inputs and give their vectors.

        What cannot be used is the caller's to see, as the answer to the caller's own request.
        """
        content = self._content_for(places)
        response = yield Call(Send(content, self._batch.inputs.keys))
        passing.add_status(response, self._status())
        if response.status_code != 200:
            if response.status_code in _TELLS_PLACES and content != self._content:
                yield Call(Close(response))
                response = yield Call(Send(self._content, self._batch.inputs.keys))
                detail = "what is wrong is told by the place of an input"
                passing.add_status(response, passing.forwarded("bypass", detail=detail))
            raise _PassedThrough(response)
        chunks = yield Call(Drain(response))
        whole = self._library.response(
            200, response.headers, chunks, extensions=response.extensions
        )
        try:
            decoded = b"".join(self._library.decoded(response.headers, chunks))
            said = parse_body(decoded)
            rows = openai_embeddings.decode(said, len(places))
        except Exception as error:  # noqa: BLE001  a body may be damaged in any way
            if content != self._content:
                whole = yield Call(Send(self._content, self._batch.inputs.keys))
                detail = f"the answer cannot be used: {error}"
                passing.add_status(whole, passing.forwarded("bypass", detail=detail))
            raise _PassedThrough(whole) from None
        if content == self._content:
            self._whole = whole
        self._headers = passing.kept_headers(response.headers)
        self._responses.append(said)
        return rows

    def _content_for(self, places: list[int]) -> bytes:
        """Write the request for some inputs; the caller's own bytes for all of them."""
        if len(places) == len(self._batch.inputs.positions):
            return self._content
        return write_body(openai_embeddings.request_for(self._batch.body, places))

    def _status(self) -> str:
        if self._batch.policy.no_cache:
            return passing.forwarded("request")
        return passing.forwarded("miss")

    def _reply(self, rows: Any) -> tuple[Headers, bytes]:
        """Write the answer to the whole batch."""
        body = self._batch.body
        model = self._batch.subject.model
        for response in self._responses:
            model = str(response.get("model") or model)
        content = write_body(
            openai_embeddings.respond(
                rows,
                openai_embeddings.encoding(body),
                model=model,
                counts=openai_embeddings.counts_of(self._responses),
            )
        )
        status = passing.forwarded("partial") if self._responses else f"{passing.CACHE}; hit"
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            *self._headers.items(),
            ("cache-status", status),
        ]
        return headers, content
