"""One question to a real language model, asked again and again.

Run as a module it asks once, in a process of its own, and writes what it saw as JSON.
"""

import dataclasses
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from examples.demo.process import new_process

QUESTION = "Tell me a joke"


@dataclasses.dataclass
class Seen:
    """Hold one answer, and what it cost: HTTP requests, tokens, seconds.

    `marked` tells whether the message says that it is a hit.
    """

    content: str
    response_metadata: dict[str, Any]
    marked: bool
    requests: int
    tokens: int
    seconds: float


class Asker:
    """Ask a LangChain chat model that keeps its answers in askonce's SQLite cache.

    `address` is a local server's; None asks OpenAI itself.
    """

    def __init__(self, model: str, address: str | None, database: Path) -> None:
        import openai
        from langchain_core.callbacks import UsageMetadataCallbackHandler
        from langchain_openai import ChatOpenAI

        from askonce.integrations.langchain import SQLiteCache

        local = {"base_url": f"{address}/v1", "api_key": "none"} if address else {}
        self._requests = 0
        self._usage = UsageMetadataCallbackHandler()
        self._model = ChatOpenAI(
            model=model,
            max_tokens=80,
            cache=SQLiteCache(database_path=str(database)),
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._count]}),
            callbacks=[self._usage],
            **local,
        )

    def ask(self) -> Seen:
        """Ask once; requests and tokens are those of this answer alone."""
        requests, tokens = self._requests, self._tokens()
        start = time.perf_counter()
        message = self._model.invoke(QUESTION)
        return Seen(
            seconds=time.perf_counter() - start,
            content=message.text,
            response_metadata=message.response_metadata,
            marked="cache_hit" in message.additional_kwargs,
            requests=self._requests - requests,
            tokens=self._tokens() - tokens,
        )

    def _count(self, request: object) -> None:
        self._requests += 1

    def _tokens(self) -> int:
        return sum(usage["total_tokens"] for usage in self._usage.usage_metadata.values())


def in_new_process(model: str, address: str | None, database: Path) -> Seen:
    """Ask once in a process of its own."""
    return Seen(**new_process(__name__, model, address or "", str(database)))


def openai_is_wanted() -> bool:
    """Tell whether there is a key for OpenAI itself."""
    return bool(os.environ.get("OPENAI_API_KEY"))


def provider_errors() -> type[Exception]:
    """Give the base of the errors of OpenAI's client."""
    import openai

    return openai.OpenAIError


def main(model: str, address: str, database: str) -> None:
    """Ask once and write what it saw."""
    print(json.dumps(dataclasses.asdict(Asker(model, address or None, Path(database)).ask())))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
