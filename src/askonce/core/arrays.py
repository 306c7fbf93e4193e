"""Large arrays in memory that was used before.

To be given fresh memory by the system takes longer than to copy vectors into it: it is found, page
by page, and filled with zeros first.
"""

import contextlib
import functools
import importlib.util
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

_CAN = sys.platform != "win32" and importlib.util.find_spec("_ctypes") is not None

_free: deque[mmap.mmap] = deque()
"""What came back last is last. No lock guards it: memory comes back whenever an array ends."""


def empty(shape: tuple[int, ...], dtype: np.dtype[np.floating[Any]]) -> Vectors:
    """Give an array that holds anything; its memory is used again when nobody refers to it.

    Then it does not own its memory, and cannot be resized in place.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE or not _CAN:
        return np.empty(shape, dtype)
    import ctypes  # noqa: PLC0415  not every Python has it

    _let_buffers_stay()
    try:
        block = _take(size) or _new(size)
    except OSError as error:
        raise MemoryError(f"no memory for an array of {size} bytes: {error}") from error
    # Whatever shows this memory, views of views too, refers to this object; and as arrays take no
    # part in the search for cycles, none is found dead that could still be saved.
    owner: Any = (ctypes.c_char * size).from_buffer(block)
    weakref.finalize(owner, _give_back, block).atexit = False
    return np.frombuffer(owner, dtype).reshape(shape)


@functools.cache
def _let_buffers_stay() -> None:
    """Let glibc see, once, that the largest blocks of its own come and go.

    It holds on to what it has seen come and go, up to twice as much; else it gives back the
    buffers of each window read, SQLite's too, and asks for them anew, page by page.
    """
    np.empty(32 * 1024 * 1024 - 65536, np.uint8)


def _new(size: int) -> mmap.mmap:
    if sys.platform == "win32":  # for type checkers
        raise AssertionError
    # Not shared with a child process, as other memory is not.
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _advise(block, "MADV_HUGEPAGE")
    return block


def _take(size: int) -> mmap.mmap | None:
    """Give memory of this size, or little more: what came back last, if it fits."""
    for block in reversed(list(_free)):
        if size <= len(block) <= size + size // 4:
            try:
                _free.remove(block)
            except ValueError:  # another thread was faster
                continue
            return block
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


def _advise(block: mmap.mmap, advice: str) -> None:
    """Advise the system, if it has ever heard of that."""
    with contextlib.suppress(OSError, AttributeError):
        block.madvise(getattr(mmap, advice))
