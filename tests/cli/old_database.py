"""Databases that `langchain_community`'s SQLiteCache really wrote, and a model that asks again."""

import contextlib
import sqlite3
import warnings

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_community.cache import SQLiteCache as TheirCache

from askonce import open_store
from askonce.integrations.langchain import StoreCache

INSERT = "INSERT INTO full_llm_cache (prompt, llm, idx, response) VALUES (?, ?, ?, ?)"
LLM = "[('model_name', 'teller-1'), ('stop', None)]"


class Teller(BaseChatModel):
    """Answer by repeating, and count."""

    model_name: str = "teller-1"
    asked: list[str] = []
    draws: int = 1

    @property
    def _llm_type(self):
        return "teller"

    @property
    def _identifying_params(self):
        return {"model_name": self.model_name, "draws": self.draws}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = messages[-1].text
        self.asked.append(text)
        return ChatResult(
            generations=[
                ChatGeneration(
                    message=AIMessage(
                        f"{text}! {draw}",
                        response_metadata={"finish_reason": "stop", "draw": draw},
                        usage_metadata={
                            "input_tokens": 2,
                            "output_tokens": 3,
                            "total_tokens": 5,
                        },
                        tool_calls=[{"name": "tell", "args": {"x": [1]}, "id": "call-1"}],
                    ),
                    generation_info={"logprobs": None},
                )
                for draw in range(self.draws)
            ]
        )


@contextlib.contextmanager
def their_cache(path):
    cache = TheirCache(database_path=str(path))
    try:
        yield cache
    finally:
        cache.engine.dispose()


def write_old(path, questions, **settings):
    with their_cache(path) as cache:
        model = Teller(cache=cache, asked=[], **settings)
        return [model.invoke(question) for question in questions]


def insert(path, *rows):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(INSERT, rows)


def questions(count):
    return [f"question {number} żółć" for number in range(count)]


def snapshot(folder, name="old.db"):
    """Everything about the database that must stay as it is, the files beside it included."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.glob(f"{name}*"))
    }


def asked_again(url, count, *, namespace="", **settings):
    """What a model behind our cache over this store is still asked."""
    with open_store(url) as store:
        model = Teller(cache=StoreCache(store, namespace=namespace), asked=[], **settings)
        answers = [model.invoke(question) for question in questions(count)]
    return model.asked, answers
