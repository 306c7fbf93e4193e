"""What copy, export and import have in common: trouble, losses, deadlines, the bar."""

import math

import pytest

from askonce import StoreError, transfer
from askonce.stores.memory import MemoryStore
from askonce.stores.postgres import PostgresStore
from tests.cli.transfers import fill, packed
from tests.servers.postgres import PATIENT, postgres, table

__all__ = ["postgres", "table"]


def test_a_source_that_is_not_there(askonce, tmp_path):
    for command in (["copy", "sqlite:///src.db", "sqlite:///dst.db"], ["export", "file:///src", "x"]):
        assert "there is no store at" in askonce(*command).error
    assert "there is no file" in askonce("import", "x", "sqlite:///dst.db").error
    assert not list(tmp_path.iterdir())


class Forgetful(MemoryStore):
    def write(self, entries, *, expires=math.inf):
        kept = {key: value for key, value in entries.items() if not key.endswith("7")}
        super().write(kept | {key: b"other" for key in entries if key.endswith("3")})


def test_verify_finds_what_got_lost():
    source, target = MemoryStore(), Forgetful()
    source.write({f"a/{number}": packed() for number in range(100)})
    told = []
    work = transfer.Transfer(target, verify=True, tell=told.append)
    outcome = transfer.copy(source, work)
    assert (outcome.copied, outcome.problems) == (80, 20)
    assert {problem.key[-1] for problem in told} == {"3", "7"}


class Shaky(MemoryStore):
    """Fail at every other verb."""

    def __init__(self):
        super().__init__()
        self.turns = 0

    def _fail(self):
        self.turns += 1
        if self.turns % 2:
            raise StoreError("it is not well")

    def read(self, keys):
        self._fail()
        return super().read(keys)

    def write(self, entries, *, expires=math.inf):
        self._fail()
        super().write(entries, expires=expires)


def test_a_moment_of_trouble_is_waited_out():
    source, target = Shaky(), Shaky()
    MemoryStore.write(source, {f"a/{number}": packed() for number in range(300)})
    assert transfer.copy(source, target).copied == 300
    assert target._entries == source._entries


def test_a_target_that_fails_ends_the_copy():
    class Dead(MemoryStore):
        def write(self, entries, *, expires=math.inf):
            raise StoreError("the disk is full")

    source = MemoryStore()
    source.write({f"a/{number}": packed() for number in range(300)})
    with pytest.raises(StoreError, match="disk is full"):
        transfer.copy(source, Dead())


@pytest.mark.parametrize("command", ["copy", "export", "import"])
def test_on_a_terminal_there_is_a_bar(askonce, monkeypatch, command):
    fill("sqlite:///src.db")
    askonce("export", "sqlite:///src.db", "x")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    arguments = {
        "copy": ["sqlite:///src.db", "file:///dst"],
        "export": ["sqlite:///src.db", "y"],
        "import": ["x", "file:///dst"],
    }[command]
    result = askonce(command, *arguments)
    assert result.code == 0
    assert f"{command}ing" in result.err


def test_a_server_is_given_time(postgres, table):
    """Only a URL that does not say otherwise waits longer than a cache would."""
    from askonce.stores import patient

    assert patient(postgres.url(table=table)).endswith(f"table={table}&lookup_timeout=5&timeout=5")
    assert patient("redis://host?lookup_timeout=1") == "redis://host?lookup_timeout=1&timeout=5"
    assert patient("sqlite:///x.db") == "sqlite:///x.db"
    assert patient("elsewhere://x") == "elsewhere://x"
    with PostgresStore(postgres.url(), table=table, **PATIENT) as store:
        assert store.read(["a/1"]) == [None]
