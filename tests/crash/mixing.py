"""Several processes that read and write the same keys.

A value says of itself who wrote it, in which turn, for which key, and repeats that to a length of
its own: a torn or misplaced one cannot look right.
"""

import hashlib
import json
import random
from pathlib import Path

from askonce import open_store
from tests.alone import Gate, fork, join
from tests.crash.killing import warm_up

PROCESSES = 8
STEPS = 500
SHARED = [f"shared/{number}" for number in range(12)]


def value_of(key: str, writer: int, turn: int) -> bytes:
    line = f"{key} {writer} {turn};".encode()
    return line * (1 + hashlib.sha256(line).digest()[0] * 8)


def read_value(key: str, value: bytes) -> tuple[int, int]:
    its_key, writer, turn = value.partition(b";")[0].decode().split()
    assert its_key == key
    assert value == value_of(key, int(writer), int(turn)), value[:100]
    return int(writer), int(turn)


def mix(url: str, writer: int, notes: Path) -> None:
    """Read and write at random; note the last turn written to each key."""
    chance = random.Random(writer)
    own = [f"own-{writer}/{number}" for number in range(5)]
    last: dict[str, int] = {}
    newest: dict[tuple[str, int], int] = {}
    with open_store(url) as store:
        for turn in range(STEPS):
            batch = chance.sample(SHARED, 3) + chance.sample(own, 1)
            if chance.random() < 0.5:
                store.write({key: value_of(key, writer, turn) for key in batch})
                last.update(dict.fromkeys(batch, turn))
                continue
            for key, value in zip(batch, store.read(batch), strict=True):
                if value is None:
                    assert key not in last, f"{key} was lost"
                    continue
                who, when = read_value(key, value)
                if key in own:
                    assert (who, when) == (writer, last[key])
                # Nobody's write is undone, ours and others'.
                assert when >= newest.get((key, who), -1), f"{key} went back in time"
                newest[key, who] = when
                assert who != writer or when == last[key]
    notes.write_text(json.dumps(last))


def mix_all(url: str, folder: str) -> None:
    warm_up()
    gate = Gate()
    notes = [Path(folder, f"notes-{writer}") for writer in range(PROCESSES)]

    def work(writer: int) -> None:
        gate.wait()
        mix(url, writer, notes[writer])

    children = [fork(lambda writer=writer: work(writer)) for writer in range(PROCESSES)]
    gate.open()
    join(*children)
    lasts = [json.loads(note.read_text()) for note in notes]
    written = sorted({key for last in lasts for key in last})
    with open_store(url) as store:
        assert sorted(store.keys()) == written
        for key, value in zip(written, store.read(written), strict=True):
            writer, turn = read_value(key, value or b"")
            # The last write of all to a key is the last of some process.
            assert lasts[writer][key] == turn, f"a write to {key} was lost"
            assert key.startswith(("shared/", f"own-{writer}/"))
