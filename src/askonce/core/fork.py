"""Forks: what a child process inherits is whole and free, whatever other threads were doing."""

import os
import threading
import weakref
from typing import Protocol


class Guard(Protocol):
    """Be a lock, or what can be held still like one."""

    def acquire(self) -> object: ...

    def release(self) -> object: ...


_guards: "weakref.WeakSet[Guard]" = weakref.WeakSet()
_held: list[Guard] = []
_turn = threading.Lock()
"""Two threads that fork at once take the guards one after the other."""


def hold_still(guard: Guard) -> None:
    """Hold this guard during every fork, so that no thread is inside it as the child begins."""
    _guards.add(guard)


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
