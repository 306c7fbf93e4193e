"""The log of an object store: segments as they are written, merged from time to time.

Whoever writes puts one small object into `log/`; who reads lists that folder and gets what is new.
Of the merged segments in `index/` those count that the newest manifest names. A manifest is made
on condition that there is none of its generation, so merging has one order without any lock.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Collection, Generator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from askonce.core import fork
from askonce.errors import StoreError
from askonce.stores.objects_bucket import Bucket, ConflictError, together
from askonce.stores.objects_manifest import (
    INDEX,
    LOG,
    Listing,
    Manifest,
    Named,
    generation_of,
    index_path,
    loose_path,
    manifest_path,
)
from askonce.stores.objects_segments import Draft, Segment, merge, parse, without_content

MERGE_AT = 32
"""So many loose segments are merged by one in eight who adds another."""

_MERGE_SURELY_AT = 4 * MERGE_AT
_MERGED_AT_MOST = 16 * 1024**2
_ROWS_AT_MOST = 100_000
_KEPT_WHOLE = 256 * 1024
_ATTEMPTS = 5

_dice = random.SystemRandom()
"""Not the one that a program may have seeded to be reproducible."""


class MovedError(Exception):
    """Say that a segment was merged since it was looked for."""


@dataclass(frozen=True)
class View:
    """Be what a look at the log found."""

    listing: Listing
    manifest: Manifest
    segments: tuple[Segment, ...] = ()

    @property
    def loose(self) -> list[Named]:
        """Give the loose segments that count."""
        replaced = self.manifest.replaced
        return [named for path, named in self.listing.loose.items() if path not in replaced]


class Log:
    """Append to the log of a bucket, look at it, and keep it short."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._merging = threading.Lock()
        self._loaded: dict[str, Segment | None] = {}
        self._loading: dict[str, Future[None]] = {}
        self._manifest = Manifest()
        self._stamp = 0
        self.known: tuple[Segment, ...] = ()
        """The segments that counted at the last look, and what was appended since."""

    async def names(self) -> View:
        """Look which segments there are, without their content."""
        for _ in range(_ATTEMPTS):
            listing = Listing.of(await self.bucket.listing(LOG))
            if self.bucket.is_folder:
                # What was merged since is missing above: its manifest must not be missing, too.
                listing.generations = Listing.of(await self.bucket.listing(LOG)).generations
            try:
                manifest = await self._manifest_of(max(listing.generations, default=0))
            except FileNotFoundError:
                continue  # merged once more meanwhile
            view = View(listing, manifest)
            with self._lock:
                self._stamp = max(self._stamp, listing.stamp, manifest.stamp)
                self._forget_all_but({named.path for named in (*manifest.segments, *view.loose)})
            return view
        raise self.restless()

    async def look(self) -> View:
        """Look which entries there are."""
        missing: set[str] = set()
        for _ in range(_ATTEMPTS):
            view = await self.names()
            wanted = [*view.manifest.segments, *view.loose]
            with self._lock:
                found = {one.path: self._loaded.get(one.path, "unknown") for one in wanted}
            unknown = [named for named in wanted if found[named.path] == "unknown"]
            loaded = await together(self._load, unknown)
            found |= {named.path: one for named, one in zip(unknown, loaded, strict=True)}
            absent = {path for path, segment in found.items() if segment == "missing"}
            if absent <= missing:
                segments = tuple(one for one in found.values() if isinstance(one, Segment))
                self.known = segments
                return View(view.listing, view.manifest, segments)
            missing = absent  # merged meanwhile; what is missing twice is lost
        raise self.restless()

    def next_stamp(self) -> int:
        """Give a stamp above all that were seen: nanoseconds since 1970, or a little more."""
        with self._lock:
            self._stamp = max(time.time_ns(), self._stamp + 1)
            return self._stamp

    async def append(self, draft: Draft) -> None:
        """Add a segment."""
        content, _ = draft.encode()
        path = loose_path(self.next_stamp())
        await self.bucket.put(path, content)
        segment = self._keep(path, parse(path, content, len(content)))
        if segment is not None:
            with self._lock:
                self.known += (segment,)

    async def merge_sometimes(self, view: View) -> None:
        """Merge if the log was long when it was looked at. Nothing is lost if it fails."""
        count = len(view.loose)
        if count < MERGE_AT or (count < _MERGE_SURELY_AT and _dice.random() > 1 / 8):
            return
        if self._merging.acquire(blocking=False):
            try:
                with contextlib.suppress(StoreError, MovedError):
                    await self.merge()
            finally:
                self._merging.release()

    async def merge(self) -> None:
        """Merge the loose segments with those merged before that are not much larger."""
        view = await self.look()
        chosen = view.loose
        total = sum(named.size for named in chosen)
        for named in sorted(view.manifest.segments, key=lambda named: named.size):
            if named.size > 2 * total or total + named.size > _MERGED_AT_MOST:
                break
            chosen.append(named)
            total += named.size
        gone = {named.path for named in chosen}
        parts = await self.whole([one for one in view.segments if one.name in gone])
        others = [segment for segment in view.segments if segment.name not in gone]
        draft = await asyncio.to_thread(merge, parts, others)
        await self.commit(view, gone, draft)

    async def whole(self, segments: Sequence[Segment]) -> list[Segment]:
        """Get all bytes of these segments; damaged ones are left out.

        Raises MovedError if one is not there any more.
        """
        return [one for one in await together(self._whole, segments) if one is not None]

    async def keys_of(self, segment: Segment) -> bytes:
        """Get the keys of a segment, one after the other; b"" if they are damaged.

        Raises MovedError if it is not there any more.
        """
        if segment.content is not None:
            keys = segment.content[segment.keys_at : segment.values_at]
        else:
            with self._noting_absence(segment.name):
                keys = await self.bucket.get_range(segment.name, segment.keys_at, segment.values_at)
        return keys if segment.keys_are(keys) else b""

    async def commit(self, view: View, gone: Collection[str], draft: Draft) -> bool:
        """Replace segments by a draft, unless somebody was faster; tell whether it was done."""
        generation = view.manifest.generation + 1
        added: list[Named] = []
        for start in range(0, len(draft.rows), _ROWS_AT_MOST):
            content, head = draft.encode(start, start + _ROWS_AT_MOST)
            added.append(Named(index_path(generation), head, len(content)))
            await self.bucket.put(added[-1].path, content)
        kept = [named for named in view.manifest.segments if named.path not in gone]
        replaced = view.listing.loose.keys() & (view.manifest.replaced | set(gone))
        stamp = max(view.listing.stamp, view.manifest.stamp)
        manifest = Manifest(generation, stamp, (*kept, *added), frozenset(replaced))
        try:
            await self.bucket.put(manifest.path, manifest.encode(), "create")
        except ConflictError:
            await self.bucket.delete([named.path for named in added])
            return False
        await self._clean(view.manifest)
        return True

    async def _clean(self, previous: Manifest) -> None:
        """Delete what the newest manifest, whosever it is, leaves out for good."""
        view = await self.names()
        newest = view.manifest
        dead = [path for path in view.listing.loose if path in newest.replaced]
        dead += [
            manifest_path(generation)
            for generation in view.listing.generations
            if generation < newest.generation
        ]
        dead += [named.path for named in previous.segments if named not in newest.segments]
        await self.bucket.delete(dead)

    async def _manifest_of(self, generation: int) -> Manifest:
        if self._manifest.generation == generation:
            return self._manifest
        if generation == 0:
            return Manifest()
        content = await self.bucket.get(manifest_path(generation))
        manifest = Manifest.decode(generation, content)
        if manifest is None:
            # Damaged: what it named is still there, and nothing else but what it left out.
            listed = await self.bucket.listing(INDEX)
            segments = (
                Named(one.path, one.size, one.size)
                for one in listed
                if (generation_of(one.path) or generation + 1) <= generation
            )
            manifest = Manifest(generation, 0, tuple(segments))
        self._manifest = manifest
        return manifest

    async def _load(self, named: Named) -> Segment | Literal["missing"] | None:
        """Give a segment, None if it is damaged; several who want one get it once."""
        path = named.path
        while True:
            with self._lock:
                if path in self._loaded:
                    return self._loaded[path]
                landing = self._loading.get(path)
                if landing is None:
                    mine = self._loading[path] = Future[None]()
                    break
            await asyncio.shield(asyncio.wrap_future(landing))
        try:
            size = named.size
            content = (
                await self.bucket.get_range(path, 0, named.head)
                if named.head < size
                else await self.bucket.get(path)
            )
            segment = parse(path, content, size)
            self._keep(path, segment)
            return segment
        except FileNotFoundError:
            return "missing"
        finally:
            with self._lock:
                del self._loading[path]
            mine.set_result(None)

    async def _whole(self, segment: Segment) -> Segment | None:
        if segment.content is not None:
            return segment
        with self._noting_absence(segment.name):
            content = await self.bucket.get(segment.name)
        whole = parse(segment.name, content, len(content))
        if whole is None or not whole.keys_are(content[whole.keys_at : whole.values_at]):
            return None
        return whole

    @contextlib.contextmanager
    def _noting_absence(self, path: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            with self._lock:
                self._loaded.pop(path, None)
            raise MovedError from error

    def _keep(self, path: str, segment: Segment | None) -> Segment | None:
        if segment is not None and segment.size > _KEPT_WHOLE:
            segment = without_content(segment)
        with self._lock:
            self._loaded[path] = segment
        return segment

    def _forget_all_but(self, paths: AbstractSet[str]) -> None:
        """Forget the segments that do not count any more, once they are many."""
        if len(self._loaded) > len(paths) + 2 * MERGE_AT:
            self._loaded = {p: one for p, one in self._loaded.items() if p in paths}
            self.known = tuple(one for one in self.known if one.name in paths)

    def restless(self) -> StoreError:
        """Say that what was looked for moved every time."""
        return StoreError(
            f"{self.bucket.shown} changes faster than it can be read; use fewer writers, or larger "
            "batches"
        )
