"""Stores of other packages seen as stores of askonce: one row a base class, one file an adapter."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from askonce.core.store import Store
from askonce.errors import InputError, InputTypeError

FILESYSTEM = "fsspec.spec:AbstractFileSystem"

ADAPTERS: Mapping[str, str] = {
    FILESYSTEM: "askonce.stores.filesystem:FilesystemStore",
    "key_value.aio.protocols.key_value:AsyncKeyValueProtocol": (
        "askonce.stores.key_value:KeyValueStore"
    ),
    "langchain_core.stores:BaseStore": "askonce.integrations.langchain.adapter:ByteStoreAdapter",
}
"""By the class that whatever is adapted derives from; whoever has such an object has its package.

LangChain's adapter is named, not imported, for integrations are above stores.
"""


def adapt(thing: object, path: str | None = None) -> Store:
    """Make a store of another package's.

    A filesystem of fsspec with the folder `path` in it, a store of py-key-value, or a `ByteStore`
    of LangChain; a Store is given back as it is. Raises InputTypeError for anything else,
    InputError for a filesystem without a path or a path without a filesystem.
    """
    if isinstance(thing, Store):
        return thing
    for base in type(thing).__mro__:
        name = f"{base.__module__}:{base.__qualname__}"
        if name not in ADAPTERS:
            continue
        if (name == FILESYSTEM) != (path is not None):
            raise InputError(
                "path is a folder in a filesystem, as in adapt(filesystem, 'bucket/askonce'), and "
                "goes with nothing else"
            )
        module, _, adapter = ADAPTERS[name].partition(":")
        make: Callable[..., Store] = getattr(importlib.import_module(module), adapter)
        arguments: tuple[Any, ...] = (thing,) if path is None else (thing, path)
        return make(*arguments)
    raise InputTypeError(
        f"a {type(thing).__qualname__} cannot be made a store: give a filesystem of fsspec, a "
        "store of py-key-value or a ByteStore of LangChain"
    )
