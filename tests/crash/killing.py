"""Kill writers at random moments, and see after each what is there."""

import importlib
import os
import random
import select
import signal
import time

from askonce import EmbeddingCache
from askonce.core import entry
from askonce.stores import SCHEMES
from tests.alone import fork, join
from tests.crash.workers import WORKERS, values_of, vector_of

AT_ONCE = 2
"""Writers alive at the same time, so that one goes on while another dies."""


class Victim:
    """Be a forked writer that is going to be killed."""

    def __init__(self, worker: str, url: str, seed: int) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)

        def work() -> None:
            def report(names: list[str]) -> None:
                # One write below PIPE_BUF is seen as a whole or not at all.
                os.write(writer, "".join(f"{name}\n" for name in names).encode())

            os.close(reader)
            WORKERS[worker].write(url, seed, report)

        self.process = fork(work)
        os.close(writer)
        self._reader = reader
        self._said = b""

    def kill(self) -> list[str]:
        """Kill it and give all that it reported."""
        assert os.waitpid(self.process, os.WNOHANG) == (0, 0), "the writer ended by itself"
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        names = self.reported()
        os.close(self._reader)
        return names

    def await_reports(self, count: int) -> None:
        while len(self.reported()) < count and select.select([self._reader], [], [], 60)[0]:
            assert os.waitpid(self.process, os.WNOHANG) == (0, 0), "the writer ended by itself"

    def reported(self) -> list[str]:
        try:
            while more := os.read(self._reader, 1 << 16):
                self._said += more
        except BlockingIOError:
            pass
        return self._said.decode().splitlines()


def warm_up() -> None:
    """Import and compute once, before the forks, what each of them would have to."""
    for target in SCHEMES.values():
        importlib.import_module(target.partition(":")[0])
    cache = EmbeddingCache(lambda texts: list(map(vector_of, texts)), model="m", store="memory://")
    cache.embed(["a"])
    cache.embed(["a", "b"])


def kill_writers(worker: str, url: str, kills: str, seed: str) -> None:
    warm_up()
    victims = [Victim(worker, url, number) for number in range(AT_ONCE)]
    try:
        reported = _kill_and_check(worker, url, int(kills), random.Random(int(seed)), victims)
    finally:
        for victim in victims:
            os.kill(victim.process, signal.SIGKILL)
    WORKERS[worker].check(url, reported)
    damaged = [value for value in values_of(url) if entry.unpack(value) is None]
    assert not damaged, damaged
    print(f"{len(reported)} reported in {kills} lives")
    assert len(reported) > int(kills)


def _kill_and_check(
    worker: str, url: str, kills: int, chance: random.Random, victims: list[Victim]
) -> list[str]:
    reported: list[str] = []
    checked = 0
    for number in range(kills):
        victim = victims.pop(chance.randrange(AT_ONCE))
        if number % 5:
            victim.await_reports(chance.randint(1, 20))
        # At any moment of a batch; in every fifth, from before the store is open.
        time.sleep(chance.uniform(0, 0.005))
        reported += victim.kill()
        victims.append(Victim(worker, url, AT_ONCE + number))
        if number % 5 == 4:
            recent, checked = reported[checked:], len(reported)
            join(fork(lambda recent=recent: WORKERS[worker].check(url, recent)))
    return reported
