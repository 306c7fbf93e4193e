"""What a bucket tells of its clock and of what is in it, and a folder of its disk."""

import secrets
import time
from pathlib import Path

from askonce.core.finding import Finding
from askonce.stores.diagnosis import clock_between, disk_of
from askonce.stores.objects_bucket import Bucket

_FOLDER = "doctor"
_MANY = 10_000
"""Objects; a look-up lists those that are new, and a listing has a thousand in a reply."""


async def findings_of(bucket: Bucket) -> list[Finding]:
    """Look at the bucket. Raises StoreError."""
    found = await bucket.listing()
    told = f"{len(found):,} objects, {sum(one.size for one in found) / 2**20:,.0f} MiB"
    findings = [Finding("objects", told)]
    if len(found) > _MANY:
        advice = "askonce vacuum packs them anew"
        findings = [Finding("objects", told, "doubtful", advice)]
    if bucket.is_folder:
        folder = Path(getattr(bucket.engine, "prefix", None) or "/", bucket.root)
        return [*findings, *disk_of(folder, needs_locks=True)]
    path = f"{_FOLDER}/{secrets.token_hex(8)}"
    before = time.time()
    await bucket.put(path, b"")
    after = time.time()
    try:
        (probe,) = [one for one in await bucket.listing(_FOLDER) if one.path == path]
    finally:
        await bucket.delete([path])
    # Services tell whole seconds, without what is beyond.
    return [*findings, clock_between(before - 1, probe.modified.timestamp(), after)]
