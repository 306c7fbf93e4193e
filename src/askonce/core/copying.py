"""Rows that are checked and copied on another core, a block at a time, while the next is read."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from askonce.core import entry
from askonce.core.vectors import Vectors

_WORTH_A_THREAD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Block:
    """Hold entries of one length, the rows of an array, and where their vectors go."""

    where: slice
    whole: NDArray[np.uint8]
    vectors: Vectors
    to: Vectors

    def copy(self) -> NDArray[np.bool_]:
        """Copy the vectors, and tell which of them are undamaged.

        Nearly all of it leaves the interpreter to others, and in two large steps: whoever wants it
        back in between may have to wait for it.
        """
        sound = entry.undamaged(self.whole)
        np.copyto(self.to, self.vectors)
        return sound


class Copier:
    """Copy one block after the other on one other thread, begun with the first."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: tuple[Block, Future[NDArray[np.bool_]]] | None = None

    def begin(self, block: Block) -> bool:
        """Begin to copy a block, once the one before is finished.

        False if it is too small to be worth it, or no thread can be had.
        """
        if block.whole.nbytes < _WORTH_A_THREAD:
            return False
        thread = self._thread or ThreadPoolExecutor(1, "askonce-copy")
        try:
            self._under_way = block, thread.submit(block.copy)
        except RuntimeError:  # too many threads, or the interpreter is ending
            return False
        self._thread = thread
        return True

    def finish(self) -> tuple[slice, NDArray[np.bool_]] | None:
        """Wait for the block under way, if any: where it went, and which rows are undamaged."""
        if self._under_way is None:
            return None
        block, outcome = self._under_way
        self._under_way = None
        return block.where, outcome.result()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
