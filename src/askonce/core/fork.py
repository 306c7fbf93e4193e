"""Forks: what a child process inherits is whole and free, whatever other threads were doing."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol


class Guard(Protocol):
    """Be a lock, or what can be held like one."""

    def acquire(self) -> object: ...

    def release(self) -> object: ...


_guards: "weakref.WeakKeyDictionary[Guard, None]" = weakref.WeakKeyDictionary()
_held: list[Guard] = []
_turn = threading.Lock()
"""Two threads that fork at once take the guards one after the other."""


def hold_still(guard: Guard) -> None:
    """Hold this guard during every fork, so that no thread is inside it as the child begins.

    They are taken in the order in which they came: one inside another must come after it.
    """
    _guards[guard] = None


class Room:
    """Let any number of threads in, and nobody while it is held: then it is empty and tidied up.

    For what must not cross a fork (open files with locks), `tidy_up` closes it.
    """

    def __init__(self, tidy_up: Callable[[], None]) -> None:
        self._tidy_up = tidy_up
        self._inside = 0
        self._wanted = False
        # A bare lock, for everybody goes through it; the condition over it is for who must wait.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        hold_still(self)

    def __enter__(self) -> None:
        with self._lock:
            while self._wanted:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._wanted:
                self._changed.notify_all()

    def acquire(self) -> None:
        """Wait until everybody is out, tidy up, and keep the door shut."""
        self._changed.acquire()
        while self._wanted:
            self._changed.wait()
        self._wanted = True
        while self._inside:
            self._changed.wait()
        self._tidy_up()

    def release(self) -> None:
        """Open the door again."""
        self._wanted = False
        self._changed.notify_all()
        self._changed.release()


def _hold() -> None:
    _turn.acquire()
    for guard in list(_guards):
        guard.acquire()
        _held.append(guard)


def _let_go() -> None:
    while _held:
        _held.pop().release()
    _turn.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
