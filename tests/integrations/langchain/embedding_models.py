"""Embedding models whose answers are known and whose calls are counted."""

import hashlib

import numpy as np
from langchain_core.embeddings import Embeddings

import askonce.integrations.langchain.embeddings as wrapper


class CountingModel(Embeddings):
    """Answer with numbers drawn from the text, the model's name and the kind of input."""

    def __init__(self, model: str = "counting", dims: int = 8) -> None:
        self.model = model
        self.dims_given = dims
        self.asked: list[list[str]] = []
        self.queries: list[str] = []
        self.colours: list[str] = []

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.asked for text in batch]

    def vector(self, text: str, kind: str = "document") -> list[float]:
        seed = hashlib.sha256(f"{self.model}|{kind}|{text}".encode("utf-8", "surrogatepass"))
        numbers = np.random.default_rng(int.from_bytes(seed.digest()[:8], "little"))
        return numbers.standard_normal(self.dims_given).astype(np.float32).tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.colours.append("sync")
        self.asked.append(list(texts))
        return [self.vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.colours.append("sync")
        self.queries.append(text)
        return self.vector(text, "query")

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors = self.embed_documents(texts)
        self.colours[-1] = "async"
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        vector = self.embed_query(text)
        self.colours[-1] = "async"
        return vector


class AnsweringModel(CountingModel):
    """Answer whatever a function of the texts gives, or raise it."""

    def __init__(self, answer, model: str = "answering") -> None:
        super().__init__(model)
        self.answer = answer

    def embed_documents(self, texts):
        super().embed_documents(texts)
        return self.answer(texts)

    def embed_query(self, text):
        super().embed_query(text)
        return self.answer([text])[0]


def cached(model: Embeddings, store: object, **options: object) -> wrapper.CacheBackedEmbeddings:
    """Make the class under test, with a namespace unless told otherwise."""
    options = {"namespace": "ns"} | options
    return wrapper.CacheBackedEmbeddings.from_bytes_store(model, store, **options)


def files_in(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
