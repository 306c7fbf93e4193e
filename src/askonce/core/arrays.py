"""Large arrays in memory that was used before.

To be given fresh memory by the system takes longer than to copy vectors into it: it is found, page
by page, and filled with zeros first.
"""

import contextlib
import ctypes
import math
import mmap
import sys
import weakref
from collections import deque
from typing import Any

import numpy as np

from askonce.core.vectors import Vectors

_LARGE = 4 * 1024 * 1024
"""Bytes; what is smaller the allocators keep themselves."""

KEPT = 128 * 1024 * 1024
"""Bytes of memory that no array uses any more, at most; the system may take them at any time."""

_free: deque[mmap.mmap] = deque()
"""No lock guards it: memory comes back whenever an array ends, in the middle of anything."""


def empty(shape: tuple[int, ...], dtype: np.dtype[np.floating[Any]]) -> Vectors:
    """Give an array that holds anything; its memory is used again when nobody refers to it."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE or sys.platform == "win32":
        return np.empty(shape, dtype)
    try:
        block = _take(size) or _new(size)
    except OSError as error:
        raise MemoryError(f"no memory for an array of {size} bytes: {error}") from error
    # Views of views refer to this object, however many there are between.
    owner: Any = (ctypes.c_char * size).from_buffer(block)
    weakref.finalize(owner, _give_back, block).atexit = False
    return np.frombuffer(owner, dtype).reshape(shape)


def _new(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    # Not shared with a child process, as other memory is not.
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _advise(block, "MADV_HUGEPAGE")
    return block


def _advise(block: mmap.mmap, advice: str) -> None:
    """Advise the system, if it has ever heard of that."""
    with contextlib.suppress(OSError, AttributeError):
        block.madvise(getattr(mmap, advice))


def _take(size: int) -> mmap.mmap | None:
    """Give memory of this size or up to twice that, the last that came back first."""
    for _ in range(len(_free)):
        try:
            block = _free.pop()
        except IndexError:
            return None
        if size <= len(block) <= 2 * size:
            return block
        _free.appendleft(block)
    return None


def _give_back(block: mmap.mmap) -> None:
    if len(block) > KEPT:
        return
    _advise(block, "MADV_FREE")
    _free.append(block)
    while sum(map(len, list(_free))) > KEPT:
        try:
            _free.popleft()
        except IndexError:
            return
