"""A bucket, or a folder like one: a few requests, each with a deadline and errors that help."""

import asyncio
import contextlib
import re
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from askonce.errors import StoreError, StoreRefusedError
from askonce.stores.objects_process import traffic

if TYPE_CHECKING:
    from obstore import ObjectMeta, UpdateVersion
    from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

    Engine = S3Store | GCSStore | AzureStore | LocalStore

A = TypeVar("A")
T = TypeVar("T")

_AT_ONCE = 32
_PAGE = 1000
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_NO_RIGHTS = ("status code: 401", "status code: 403", "Permission denied")
"""What a listing or a folder fails with, whose errors are all of one kind."""

_DENIED = (PermissionDeniedError, UnauthenticatedError)


class ConflictError(Exception):
    """Say that an object is not, or no longer, what a conditional put expects."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Be one object of a listing."""

    path: str
    size: int
    modified: datetime


class Bucket:
    """Ask for objects below `root`; all paths are relative to it.

    `is_folder` tells that the engine is a file system: its listings have no order, and its objects
    cannot be replaced on condition.
    """

    def __init__(
        self, engine: "Engine", root: str, *, shown: str, timeout: float, is_folder: bool = False
    ) -> None:
        self.engine = engine
        self.root = root
        self.shown = shown
        self.timeout = timeout
        self.is_folder = is_folder

    async def listing(self, folder: str = "") -> list[Listed]:
        """List what is below a folder."""
        prefix = self._full(folder) if folder else self.root
        start = len(self.root) + 1
        found: list[Listed] = []
        pages = self.engine.list(prefix, chunk_size=_PAGE)
        if self.is_folder:
            async with self._asking():
                whole = await pages.collect_async()
            return [_listed(meta, start) for meta in whole]
        while True:
            async with self._asking():
                page = await anext(pages, None)
            if page is None:
                return found
            found += [_listed(meta, start) for meta in page]

    async def get(self, path: str) -> bytes:
        """Get an object. Raises FileNotFoundError if it is not there."""
        async with self._asking():
            found = await self.engine.get_async(self._full(path))
            return bytes(await found.bytes_async())

    async def get_version(self, path: str) -> tuple[bytes, "UpdateVersion"]:
        """Get an object, and what a put on condition wants to know of it."""
        async with self._asking():
            found = await self.engine.get_async(self._full(path))
            content = bytes(await found.bytes_async())
            meta = found.meta
        tags = {"e_tag": meta["e_tag"], "version": meta["version"]}
        version: Any = {name: tag for name, tag in tags.items() if tag is not None}
        return content, version

    async def get_range(self, path: str, start: int, end: int) -> bytes:
        """Get a part of an object, less of it if the object ends before."""
        return bytes(await self.get_view(path, start, end))

    async def get_view(self, path: str, start: int, end: int) -> memoryview:
        """Get a part of an object like `get_range`, as the engine holds it, without copying."""
        if start == end:
            return memoryview(b"")
        full = self._full(path)
        try:
            async with self._asking():
                return memoryview(await self.engine.get_range_async(full, start=start, end=end))
        except StoreError:
            async with self._asking():
                size = (await self.engine.head_async(full))["size"]
            if size <= start:
                return memoryview(b"")
            raise

    async def put(
        self,
        path: str,
        content: bytes,
        mode: "Literal['create', 'overwrite'] | UpdateVersion" = "overwrite",
    ) -> None:
        """Put an object. Raises ConflictError if it is not what `mode` expects."""
        try:
            async with self._asking(changing=True):
                await self.engine.put_async(
                    self._full(path), content, mode=mode, use_multipart=False
                )
        except FileNotFoundError as error:
            if isinstance(mode, dict):
                raise ConflictError from error
            raise self._missing() from error

    async def delete(self, paths: Collection[str]) -> None:
        """Delete objects, those that are still there."""
        if not paths:
            return
        full = [self._full(path) for path in paths]
        try:
            async with self._asking(changing=True):
                await self.engine.delete_async(full)
        except FileNotFoundError:
            # Where one is missing some engines stop; then each goes by itself.
            await together(self._delete_one, full)

    async def _delete_one(self, full: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            async with self._asking(changing=True):
                await self.engine.delete_async(full)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    @contextlib.asynccontextmanager
    async def _asking(self, *, changing: bool = False) -> AsyncGenerator[None]:
        """Give a request its deadline, and its errors words."""
        try:
            with traffic.request(self.shown):
                async with asyncio.timeout(self.timeout):
                    yield
        except TimeoutError as error:
            raise self.silent(self.timeout) from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise ConflictError from error
        except BaseError as error:
            text = str(error)
            if any(sign in text for sign in _NO_BUCKET):
                raise self._missing() from error
            if isinstance(error, _DENIED) or any(sign in text for sign in _NO_RIGHTS):
                # Who may not write may still read.
                kind = StoreRefusedError if changing else StoreError
                raise kind(
                    f"{self.shown} refuses it ({_brief(error)}); check the right to list, get, put "
                    "and delete there, and for a bucket the credentials in the environment"
                ) from error
            raise StoreError(
                f"{self.shown} cannot be used: {_brief(error)}; check that it can be reached"
            ) from error
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreError(f"{self.shown} cannot be used: {_brief(error)}") from error

    def silent(self, seconds: float) -> StoreError:
        """Say that an answer did not come in time."""
        return StoreError(
            f"{self.shown} did not answer within {seconds:g} seconds; check that it can be reached "
            "and that the environment has credentials for it, or allow more with ?lookup_timeout= "
            "(look-ups) or ?timeout= (all else)"
        )

    def _missing(self) -> StoreError:
        return StoreError(f"{self.shown} is not there; create the bucket first")


async def together(ask: Callable[[A], Awaitable[T]], arguments: Iterable[A]) -> list[T]:
    """Ask for each of these, many at once, and give what comes in their order.

    The first error ends the others.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask_for(argument: A) -> T:
        async with room:
            return await ask(argument)

    tasks = [asyncio.ensure_future(ask_for(argument)) for argument in arguments]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _listed(meta: "ObjectMeta", start: int) -> Listed:
    return Listed(meta["path"][start:], meta["size"], meta["last_modified"])


def _brief(error: Exception) -> str:
    """Cut an error down to what a person wants to know, without what may be a signed URL."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    first = re.sub(r"\?\S*", "", text.partition("\n")[0])[:300]
    return f"{first} {code[1]}" if code and code[1] not in first else first


def joined(ranges: Sequence[tuple[int, int]], gap: int, most: int) -> list[tuple[int, int]]:
    """Join sorted ranges with at most `gap` bytes between them, up to `most` bytes."""
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if found and start - found[-1][1] <= gap and end - found[-1][0] <= most:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found
