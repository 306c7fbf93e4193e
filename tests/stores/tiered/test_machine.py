"""Two hosts over a far store that fails at any moment, driven at random against a history.

Whatever fails, before or after it was done: nobody reads what was never written or what they
themselves deleted, and when the far store is back and all is sent, the last change of every key is
what everybody reads.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from askonce import StoreError
from askonce.stores import retiring, tiers
from askonce.stores.memory import MemoryStore
from askonce.stores.sender import Sender
from askonce.stores.sqlite import SQLiteStore
from tests.stores.hosts import Clock, Host, blob, far_content

KEYS = [f"{space}/{number}" for space in "ab" for number in range(2)]
HOST = st.integers(0, 1)
FAULTS = st.lists(st.sampled_from([None, None, "before", "after"]), max_size=8)
LINKS = st.sampled_from(["whole", "before", "after"]) | FAULTS
CHANGE = st.tuples(
    HOST,
    st.sampled_from(["write", "write", "write", "delete", "delete", "clear"]),
    st.sets(st.sampled_from(KEYS), min_size=1),
    st.sampled_from(["a/", "b/", ""]),
    st.booleans(),
)


class TwoHosts(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.far = self.folder / "far.db"
        self.clock = Clock()
        # One gives most up again at once, the other one keeps all on disk.
        self.hosts = [Host(self.far, self.clock, MemoryStore(600)), self.open_second()]
        self.history = {key: [None] for key in KEYS}
        self.changed_by = {}
        self.number = 0

    def open_second(self):
        return Host(self.far, self.clock, SQLiteStore(self.folder / "near.db"))

    def use(self, blocking, host, verb, *arguments):
        store = self.hosts[host].tier
        if blocking:
            return getattr(store, verb)(*arguments)
        return self.runner.run(getattr(store, "a" + verb)(*arguments))

    def is_failing(self, host):
        link, tier = self.hosts[host].link, self.hosts[host].tier
        return link.fails is not None or tier.trouble is not None

    @rule(host=HOST, state=LINKS)
    def link(self, host, state):
        """Let the link to the far store be whole, be cut, or fail a few times."""
        link = self.hosts[host].link
        if state == "whole":
            self.hosts[host].come_back()
        elif isinstance(state, str):
            link.go_down(when=state)
        else:
            faults = list(state)
            link.fails = lambda verb: faults.pop(0) if faults else None

    @rule(seconds=st.sampled_from([0.01, 0.2, 2.0, 6.0]))
    def wait(self, seconds):
        self.clock.pass_by(seconds)

    @rule(changes=st.lists(CHANGE, min_size=1, max_size=6))
    def change(self, changes):
        for host, verb, keys, prefix, blocking in changes:
            if verb == "clear":
                keys = {key for key in KEYS if key.startswith(prefix)}
            self.number += 1
            value = blob(f"{self.number}", self.clock()) if verb == "write" else None
            entries = dict.fromkeys(sorted(keys), value)
            argument = {"write": entries, "delete": list(entries), "clear": prefix}[verb]
            try:
                self.use(blocking, host, verb, argument)
            except StoreError as error:
                assert verb != "write"
                assert "It waits" in str(error)
            for key in keys:
                self.history[key].append(value)
                self.changed_by[key] = host
            self.look(host, sorted(keys), blocking)

    @rule(host=HOST, keys=st.lists(st.sampled_from(KEYS), max_size=6), blocking=st.booleans())
    def read(self, host, keys, blocking):
        self.look(host, keys, blocking)

    def look(self, host, keys, blocking):
        was_failing = self.is_failing(host)
        for key, value in zip(keys, self.use(blocking, host, "read", keys), strict=True):
            assert value in self.history[key]
            if self.changed_by.get(key) == host and value != self.history[key][-1]:
                assert value is None
                assert was_failing

    @rule(host=HOST, blocking=st.booleans())
    def flush(self, host, blocking):
        try:
            self.use(blocking, host, "flush")
        except StoreError:
            pass

    @rule()
    def restart(self):
        self.hosts[1].close()
        self.hosts[1] = self.open_second()

    @rule(order=st.permutations([0, 1]), blocking=st.booleans())
    def heal(self, order, blocking):
        """See that everybody comes to agree about the last change of every key."""
        for host in self.hosts:
            host.link.come_back()
        self.clock.pass_by(2)
        for host in order:
            self.use(blocking, host, "flush")
        self.clock.pass_by(5)
        expected = {key: values[-1] for key, values in self.history.items()}
        there = {key: value for key, value in expected.items() if value is not None}
        assert far_content(self.far) == there
        for host in order:
            assert self.use(blocking, host, "read", KEYS) == list(expected.values())
            assert sorted(self.hosts[host].tier.keys()) == sorted(there)

    def teardown(self):
        try:
            self.heal([0, 1], True)
        finally:
            for host in self.hosts:
                host.close()
            self.runner.close()
            shutil.rmtree(self.folder)


def test_two_hosts_agree_whatever_fails(monkeypatch):
    monkeypatch.setattr(Sender, "wake", lambda self: None)
    # Two that found nothing under a key and both write it may keep what they wrote themselves.
    monkeypatch.setattr(tiers, "_ABSENT_FOR", 0.0)
    # A right to change the journal that was lost is not worth waiting for here.
    monkeypatch.setattr(retiring, "_LEASE_SECONDS", 0.02)
    run_state_machine_as_test(
        TwoHosts,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
