"""Hosts with tiers of their own over one far store that fails on command, and one clock for all."""

from askonce.core import codecs, entry
from askonce.core.breaker import Breaker
from askonce.stores.guarded import Guarded
from askonce.stores.memory import MemoryStore
from askonce.stores.retiring import is_own
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.tiered import TieredStore
from tests.stores.faults import Faulty


class Clock:
    """Tell the time, which goes on a little with every look, and more only when it is told to."""

    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        self.now += 1e-4
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


class Host:
    """Have a tier over the SQLite file `far`; `link` is what may fail between the two."""

    def __init__(self, far, clock, near=None, **options):
        self.link = Faulty(SQLiteStore(far))
        self.clock = clock
        guarded = Guarded(
            self.link,
            lookup_timeout=60,
            timeout=60,
            clock=clock,
            breaker=Breaker(longest_pause=1.0),
        )
        self.near = MemoryStore() if near is None else near
        self.tier = TieredStore(self.near, guarded, clock=clock, **options)

    def come_back(self):
        self.link.come_back()
        self.clock.pass_by(1.0)

    def asked_far(self):
        """Tell for which keys the far store was asked since the last time."""
        keys = [key for key in self.link.read_keys if not is_own(key) and key != "askonce/probe"]
        self.link.read_keys.clear()
        return keys

    def close(self):
        self.tier.close()


def blob(text, created, expires=entry.NEVER):
    return entry.pack(entry.Entry(text.encode(), codecs.JSON, created, expires))


def far_content(path):
    """Read what the far store has, past all tiers."""
    with SQLiteStore(path) as store:
        keys = [key for key in store.keys() if not is_own(key)]
        return dict(zip(keys, store.read(keys), strict=True))
