"""Models whose streams are asked for once, too."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from askonce.integrations.langchain.cached_answers import Recording, stream_of
from askonce.integrations.langchain.cached_wrapped import Wrapped, arguments_for
from askonce.leading import Lead


class Streaming(Wrapped):
    """Be a model whose streams are asked for once, too."""

    _stream_chat_model_events = None
    _astream_chat_model_events = None
    """LangChain then makes its events out of the chunks."""

    def _stream(
        self, asked: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        keeper = self._keeper()
        found = self._find(keeper, self._question(asked, stop, kwargs, streamed=True), stream_of)
        if found is not None and not isinstance(found, Lead):
            for chunk in found:
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
            return
        model = self._uncached()
        recording = Recording()
        with keeper.asking(found):
            if limiter := self._limiter():
                limiter.acquire(blocking=True)
            arguments = arguments_for(model._stream, run_manager, kwargs)
            for chunk in model._stream(asked, stop=stop, **arguments):
                recording.take(chunk)
                _hold(found, recording.pieces)
                yield chunk
                _hold(found, 0)
        if found is not None:
            keeper.run(keeper.keeping(found, recording))

    async def _astream(
        self, asked: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        keeper = self._keeper()
        question = self._question(asked, stop, kwargs, streamed=True)
        found = await self._afind(keeper, question, stream_of)
        if found is not None and not isinstance(found, Lead):
            for chunk in found:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
            return
        model = self._uncached()
        recording = Recording()
        with keeper.asking(found):
            if limiter := self._limiter():
                await limiter.aacquire(blocking=True)
            arguments = arguments_for(model._astream, run_manager, kwargs)
            async with _closing(model._astream(asked, stop=stop, **arguments)) as chunks:
                async for chunk in chunks:
                    recording.take(chunk)
                    _hold(found, recording.pieces)
                    yield chunk
                    _hold(found, 0)
        if found is not None:
            await keeper.arun(keeper.keeping(found, recording))


def _hold(lead: Lead | None, pieces: int) -> None:
    if lead is not None:
        lead.hold(pieces)


@contextlib.asynccontextmanager
async def _closing(chunks: Any) -> AsyncGenerator[Any]:
    """Close what can be closed, at once."""
    try:
        yield chunks
    finally:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()
