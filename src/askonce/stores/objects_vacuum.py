"""Vacuum: one index without gaps, and packs that are full."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta

import numpy as np

from askonce.stores.objects_bucket import Listed
from askonce.stores.objects_log import Log, MovedError
from askonce.stores.objects_manifest import INDEX, LOG, PACKS, generation_of, is_pack, pack_name
from askonce.stores.objects_segments import GONE, HERE, Draft, Indexes, merge
from askonce.stores.objects_values import Spot, Values

_ATTEMPTS = 3
_FULL_PACK = 16 * 1024**2
_SMALL_PACK = 4 * 1024**2
_WORTH = 3 / 4
"""A pack of which less is needed is packed anew."""

_ABANDONED_AFTER = timedelta(hours=1)
"""A pack that no segment names may be one whose segment is being written, for so long."""


async def vacuum(log: Log) -> None:
    """Merge all segments, pack anew what takes too much space, and delete what nobody needs."""
    for _ in range(_ATTEMPTS):
        view = await log.look()
        try:
            parts = await log.whole(view.segments)
        except MovedError:
            continue
        needed_before = {name for part in parts for name in part.packs}
        draft = await asyncio.to_thread(merge, parts, [])
        await _repack(log, draft)
        gone = {named.path for named in (*view.manifest.segments, *view.loose)}
        if await log.commit(view, gone, draft):
            await _sweep(log, needed_before - set(draft.packs))
            return


async def _repack(log: Log, draft: Draft) -> None:
    """Move values out of packs that are small or half empty into new ones."""
    listed = {one.path: one for one in await log.bucket.listing(PACKS)}
    moving = _to_be_moved(draft, listed)
    chosen = np.flatnonzero(np.isin(draft.rows["place"], moving))
    lost = np.zeros(len(draft.rows), np.bool_)
    for batch in _batches(draft, chosen):
        spots = [_spot_of(draft, row) for row in batch]
        values = Values(log.bucket)
        await values.load(spots)
        name = pack_name(log.next_stamp())
        pack = bytearray()
        draft.packs.append(name)
        for row, value in zip(batch, values.cut(spots), strict=True):
            if value is None:
                lost[row] = True
                continue
            draft.rows["place"][row] = len(draft.packs)
            draft.rows["offset"][row] = len(pack)
            pack += value
        await log.bucket.put(f"{PACKS}/{name}", bytes(pack))
    _drop(draft, lost)


def _to_be_moved(draft: Draft, listed: Mapping[str, Listed]) -> list[int]:
    """Choose packs by their places; those that are missing are chosen, too."""
    moving: list[int] = []
    small: list[int] = []
    for place, name in enumerate(draft.packs, start=1):
        found = listed.get(f"{PACKS}/{name}")
        needed = int(draft.rows["length"][draft.rows["place"] == place].sum())
        if found is None or needed < found.size * _WORTH:
            moving.append(place)
        elif found.size < _SMALL_PACK:
            small.append(place)
    return moving + small if len(moving + small) > 1 else moving


def _batches(draft: Draft, rows: Indexes) -> Iterator[list[int]]:
    """Cut rows, in the order in which they lie, into packs to be."""
    order = np.lexsort((draft.rows["offset"][rows], draft.rows["place"][rows]))
    batch: list[int] = []
    size = 0
    for row in rows[order].tolist():
        length = int(draft.rows["length"][row])
        if batch and size + length > _FULL_PACK:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def _spot_of(draft: Draft, row: int) -> Spot:
    found = draft.rows[row]
    start = int(found["offset"])
    path = f"{PACKS}/{draft.packs[int(found['place']) - 1]}"
    digest = draft.rows["digest"][row : row + 1].tobytes()
    return Spot(path, start, start + int(found["length"]), digest, int(found["checksum"]))


def _drop(draft: Draft, lost: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
    """Leave out rows whose values are lost, and packs that no row needs."""
    draft.rows = draft.rows[~lost]
    draft.keys = [key for key, gone in zip(draft.keys, lost.tolist(), strict=True) if not gone]
    draft.values = [one for one, gone in zip(draft.values, lost.tolist(), strict=True) if not gone]
    outside = (draft.rows["place"] != HERE) & (draft.rows["place"] != GONE)
    places, numbers = np.unique(draft.rows["place"][outside], return_inverse=True)
    draft.rows["place"][outside] = numbers + 1
    draft.packs = [draft.packs[place - 1] for place in places.tolist()]


async def _sweep(log: Log, left: set[str]) -> None:
    """Delete packs that were left, and what writers that died have left behind."""
    view = await log.names()
    counting = {named.path for named in view.manifest.segments}
    log_listed = await log.bucket.listing(LOG)
    now = max((one.modified for one in log_listed), default=None)
    dead = {f"{PACKS}/{name}" for name in left}
    needed = await _needed(log)
    for one in await log.bucket.listing(PACKS):
        old = now is not None and one.modified < now - _ABANDONED_AFTER
        if is_pack(one.path) and old and one.path not in needed:
            dead.add(one.path)
    for one in await log.bucket.listing(INDEX):
        generation = generation_of(one.path)
        if (
            generation is not None
            and generation <= view.manifest.generation
            and one.path not in counting
        ):
            dead.add(one.path)
    await log.bucket.delete(dead)


async def _needed(log: Log) -> set[str]:
    view = await log.look()
    return {f"{PACKS}/{name}" for segment in view.segments for name in segment.packs}
