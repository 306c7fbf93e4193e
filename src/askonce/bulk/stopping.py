"""How a job ends before its end: by Ctrl-C, or by an error that all passages share."""

import threading

from askonce.errors import AskonceError


class JobError(AskonceError):
    """Say why a job cannot go on; what is stored stays."""


class Stopped(JobError):  # noqa: N818  it was asked to, nothing is wrong
    """Say that a job was asked to stop, and did once its batches were stored."""


class Brake:
    """Let threads know that nothing more is to be asked, and why."""

    def __init__(self) -> None:
        self.pulled = threading.Event()
        self.error: JobError | None = None
        self._lock = threading.Lock()

    def pull(self, error: JobError) -> None:
        """Have nothing more asked, because of this; the first reason counts."""
        with self._lock:
            if self.error is None:
                self.error = error
        self.pulled.set()

    def stop(self) -> None:
        """Have nothing more asked, because someone wants it so."""
        self.pulled.set()

    def check(self) -> None:
        """Raise the reason if nothing more is to be asked."""
        if self.pulled.is_set():
            raise self.error or Stopped("stopped")
