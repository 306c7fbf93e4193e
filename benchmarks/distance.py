"""A server as if it was further away: all that goes to and fro takes its time."""

import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def distant(port: int, seconds: float) -> Iterator[int]:
    """Give the port at which a server of this machine is so many seconds away, each way.

    What delays is a process of its own: it takes no time of the one that measures.
    """
    command = [sys.executable, "-m", "benchmarks.distance", str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _serve(port: int, seconds: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        ends = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
        for end in ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in (ends, ends[::-1]):
            underway: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=_take, args=(source, underway, seconds), daemon=True).start()
            threading.Thread(target=_deliver, args=(sink, underway), daemon=True).start()


def _take(source: socket.socket, underway: queue.SimpleQueue, seconds: float) -> None:
    data = b"anything"
    while data:
        try:
            data = source.recv(2**20)
        except OSError:
            data = b""
        underway.put((time.monotonic() + seconds, data))


def _deliver(sink: socket.socket, underway: queue.SimpleQueue) -> None:
    with contextlib.suppress(OSError), sink:
        while True:
            due, data = underway.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                return
            sink.sendall(data)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]))
