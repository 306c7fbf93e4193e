"""What several stores have to look at: the disk they are on, the clock of their server."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from askonce.core.finding import Finding

_LITTLE = 2**30
_TOO_LITTLE = 64 * 2**20
_CLOCK_MAY_DIFFER = 1.0
_CLOCK_DIFFERS = 60.0
_NETWORK = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "smb")
_MOUNTS = Path("/proc/self/mountinfo")


def disk_of(path: Path, *, needs_locks: bool) -> list[Finding]:
    """Look at the disk of a store: how much is free, and whether it is this machine's own.

    `needs_locks` says that the store relies on locks, which most network file systems lack.
    """
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    told = f"{free / 2**30:.1f} GiB are free"
    advice = "free space: askonce prune and vacuum, or move the store"
    if free < _TOO_LITTLE:
        findings = [Finding("disk", told, "wrong", advice)]
    elif free < _LITTLE:
        findings = [Finding("disk", told, "doubtful", advice)]
    else:
        findings = [Finding("disk", told)]
    kind = _file_system_of(path)
    if kind.startswith(_NETWORK):
        findings.append(
            Finding(
                "file system",
                f"it is on a network file system ({kind})",
                "wrong" if needs_locks else "doubtful",
                "move it to a disk of this machine; to share it among hosts, use redis://, "
                "postgresql:// or s3://",
            )
        )
    return findings


def _file_system_of(path: Path) -> str:
    """Name the kind of file system, as Linux does; empty where that is not known."""
    if sys.platform != "linux":
        return ""
    place = os.path.realpath(path)
    longest, kind = "", ""
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split(" ")[4].replace("\\040", " ")
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(longest):
            longest, kind = mount, after.split(" ", 1)[0]
    return kind


def clock_of(ask: Callable[[], float]) -> Finding:
    """Compare a server's clock, in seconds since 1970, with ours."""
    before = time.time()
    theirs = ask()
    return clock_between(before, theirs, time.time())


def clock_between(before: float, theirs: float, after: float) -> Finding:
    """Judge a server's time that was read some time between two of ours."""
    difference = max(0.0, theirs - after, before - theirs)
    if difference < _CLOCK_MAY_DIFFER:
        return Finding("clock", "the server's agrees with ours to the second")
    ahead = "ahead of" if theirs > after else "behind"
    return Finding(
        "clock",
        f"the server's is {difference:.0f} s {ahead} ours",
        "wrong" if difference > _CLOCK_DIFFERS else "doubtful",
        "entries end too early or too late by that much: let NTP set the clocks of all hosts",
    )
