"""Keys, sizes and what waits; what closes, dies or forks with it."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import askonce
from askonce import StoreError
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.tiered import TieredStore
from tests.alone import ROOT, alone
from tests.stores import forks
from tests.stores.faults import Faulty
from tests.stores.hosts import Host, far_content


def test_keys_are_those_of_both(host, use):
    host.tier.write({"a/1": b"one", "b/1": b"other"})
    host.near.write({"a/2": b"near only"})
    host.link.store.write({"a/3": b"far only"})
    assert sorted(host.tier.keys("a/")) == ["a/1", "a/2", "a/3"]
    host.link.go_down()
    with pytest.raises(StoreError):
        list(host.tier.keys())


def test_what_waits_is_sent_before_keys_are_listed(host):
    host.link.go_down()
    host.tier.write({"a/1": b"one"})
    with pytest.raises(StoreError):
        list(host.tier.keys())
    host.come_back()
    assert list(host.tier.keys()) == ["a/1"]


def test_tells_what_waits(host):
    assert not [finding for finding in host.tier.diagnose() if finding.check == "outbox"]
    host.link.go_down("write")
    host.tier.write({"a/1": b"one", "a/2": b"two"})
    host.come_back()
    (finding,) = [finding for finding in host.tier.diagnose() if finding.check == "outbox"]
    assert finding.told == "2 changes wait for the far store"


@pytest.mark.parametrize("verb", ["size", "evict", "vacuum", "prune", "clear"])
def test_upkeep_that_does_not_reach_both_is_an_error(host, use, verb):
    host.link.go_down()
    with pytest.raises(StoreError):
        use(host.tier, verb, *{"prune": (0.0,), "clear": ("",)}.get(verb, ()))


def test_the_background_sends_as_soon_as_it_can(tmp_path):
    far = Faulty(MemoryStore())
    sent = threading.Event()
    far.go_down()
    with TieredStore(MemoryStore(), far) as tier:
        tier.write({"a/1": b"one"})
        write = far.store.write

        def notice(entries, expires):
            write(entries, expires=expires)
            sent.set()

        far.store.write = notice
        far.come_back()
        assert sent.wait(60)
        assert far.store.read(["a/1"]) == [b"one"]


def test_closing_sends_what_waits(by_hand, far, clock):
    host = Host(far, clock)
    host.link.go_down()
    host.tier.write({"a/1": b"one"})
    host.come_back()
    asyncio.run(host.tier.aclose())
    assert far_content(far) == {"a/1": b"one"}


def test_what_is_lost_from_memory_is_logged(by_hand, far, clock, caplog):
    host = Host(far, clock)
    host.link.go_down()
    host.tier.write({"a/1": b"one"})
    with caplog.at_level(logging.WARNING, "askonce"):
        host.close()
    assert "what waited for the far store is lost" in caplog.text


def test_another_process_sends_what_a_killed_one_left(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from askonce.stores.sqlite import SQLiteStore\n"
        "from askonce.stores.tiered import TieredStore\n"
        "from tests.stores.faults import Faulty\n"
        "far = Faulty(SQLiteStore(sys.argv[2]))\n"
        "far.go_down()\n"
        "tier = TieredStore(SQLiteStore(sys.argv[1]), far)\n"
        "for number in range(50):\n"
        "    tier.write({f'a/{number}': b'%d' % number})\n"
        "with tier._outbox.turn() as mine:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "near.db", tmp_path / "far.db"]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert far_content(tmp_path / "far.db") == {}
    with TieredStore(SQLiteStore(tmp_path / "near.db"), SQLiteStore(tmp_path / "far.db")) as tier:
        tier.flush()
    assert far_content(tmp_path / "far.db") == {f"a/{n}": b"%d" % n for n in range(50)}


def embed(texts):
    return np.array([[float(len(text)), 1.0] for text in texts], np.float32)


def test_a_cache_over_tiers_goes_on_while_the_far_one_is_down(hosts, clock):
    one, other = hosts
    events, asked = [], []

    def counted(texts):
        asked.extend(texts)
        return embed(texts)

    def cache(host):
        return askonce.EmbeddingCache(counted, model="m", store=host.tier, observe=events.append)

    cache(one).embed(["a", "bb"])
    cache(other).embed(["a", "bb"])
    assert asked == ["a", "bb"]
    one.link.go_down()
    for number in range(5):
        cache(one).embed(["a", "bb", f"text {number}"])
        clock.pass_by(0.01)
    assert len(asked) == 7
    told = [event.kind for event in events if event.kind.startswith("store_")]
    assert told == ["store_failed"]
    one.come_back()
    one.tier.flush()
    cache(other).embed([f"text {number}" for number in range(5)])
    assert len(asked) == 7
    cache(one).embed(["a"])
    told = [event.kind for event in events if event.kind.startswith("store_")]
    assert told == ["store_failed", "store_back"]


@pytest.mark.parametrize("scenario", [forks.use_in_both, forks.fork_amid_threads])
def test_survives_a_fork(tmp_path, scenario):
    alone(scenario, f"tiered+sqlite:///{tmp_path}/near.db?far=sqlite:///{tmp_path}/far.db")
