"""Which upstream tests are run, and what of LangChain's is replaced in them by ours.

By distribution and test file. A replacement leads from LangChain's `module:name` to `module:name`
here. Where there is no module in front of the colon, the test file itself defines the class, and
that one is replaced.
"""

CACHED_EMBEDDINGS = "askonce.integrations.langchain:CacheBackedEmbeddings"
FILE_STORE = "askonce.integrations.langchain:LocalFileStore"
MEMORY_CACHE = "askonce.integrations.langchain:InMemoryCache"
# These add only the attributes of LangChain's classes that their tests look into.
WRITABLE_CACHE = "askonce_stand_ins:InMemoryCache"
SQLALCHEMY_CACHE = "askonce_stand_ins:SQLAlchemyCache"
TEXT_STORE = "askonce_stand_ins:InMemoryStore"

SUITES = {
    "langchain-classic": {
        "tests/unit_tests/embeddings/test_caching.py": {
            "langchain_classic.embeddings.cache:CacheBackedEmbeddings": CACHED_EMBEDDINGS,
        },
        "tests/unit_tests/storage/test_filesystem.py": {
            "langchain_classic.storage.file_system:LocalFileStore": FILE_STORE,
        },
    },
    "langchain-core": {
        "tests/unit_tests/caches/test_in_memory_cache.py": {
            "langchain_core.caches:InMemoryCache": MEMORY_CACHE,
        },
        "tests/unit_tests/language_models/chat_models/test_cache.py": {
            ":InMemoryCache": WRITABLE_CACHE,
        },
        "tests/unit_tests/language_models/llms/test_cache.py": {
            ":InMemoryCache": WRITABLE_CACHE,
        },
        "tests/unit_tests/stores/test_in_memory.py": {
            "langchain_core.stores:InMemoryStore": TEXT_STORE,
        },
    },
    "langchain-community": {
        "tests/unit_tests/test_cache.py": {
            "langchain_core.caches:InMemoryCache": MEMORY_CACHE,
            "langchain_community.cache:SQLAlchemyCache": SQLALCHEMY_CACHE,
        },
    },
}
