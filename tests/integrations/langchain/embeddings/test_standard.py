"""LangChain's own suites for embeddings."""

from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from askonce.integrations.langchain import CacheBackedEmbeddings, InMemoryByteStore
from tests.integrations.langchain.embedding_models import CountingModel, cached


class CachedModel(CacheBackedEmbeddings):
    """Be what the standard suites can construct from parameters."""

    def __new__(cls, queries: bool = False):
        return cached(CountingModel(), InMemoryByteStore(), query_embedding_cache=queries)


class Parameters:
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return CachedModel


class WithQueries(Parameters):
    @property
    def embedding_model_params(self) -> dict:
        return {"queries": True}


class TestStandardUnit(Parameters, EmbeddingsUnitTests):
    pass


class TestStandard(Parameters, EmbeddingsIntegrationTests):
    pass


class TestStandardWithQueries(WithQueries, EmbeddingsIntegrationTests):
    pass
