"""A thread in the background that sends what waits, as long as something does."""

import os
import threading
import weakref
from collections.abc import Callable

from askonce.core import fork
from askonce.errors import StoreError

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Sender:
    """Call the method `send` until it does not raise StoreError, with pauses that grow.

    The thread ends when nothing waits any more, and when the owner of the method is gone.
    """

    def __init__(self, send: Callable[[], None], is_empty: Callable[[], bool]) -> None:
        self._send = weakref.WeakMethod(send)
        self._is_empty = is_empty
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def wake(self) -> None:
        """See to it that what waits is sent."""
        with self._lock:
            if self._process != os.getpid():
                # The thread stayed in the parent, and may have held the event's lock.
                self._process = os.getpid()
                self._thread = None
                self._stopped = threading.Event()
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=self._keep_sending, name="askonce-outbox", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Send nothing more; what is under way comes to its end."""
        with self._lock:
            thread = self._thread if self._process == os.getpid() else None
            if thread is None:
                self._stopped = threading.Event()
            self._stopped.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _keep_sending(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopped.wait(pause):
            send = self._send()
            if send is None:
                return
            try:
                send()
            except StoreError:
                pause = min(2 * pause, _LONGEST_PAUSE)
            del send
            with self._lock:
                if self._is_done():
                    self._thread = None
                    return

    def _is_done(self) -> bool:
        try:
            return self._is_empty()
        except StoreError:
            return True
