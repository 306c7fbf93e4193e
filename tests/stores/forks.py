"""A store that was opened before a fork and is used in both processes."""

import os
import threading

from askonce import Store, open_store
from tests.alone import Gate, fork, join


def use_in_both(url: str) -> None:
    store = open_store(url)
    store.write({"a/before": b"before"})

    def work() -> None:
        write_and_read(store, "child")
        store.close()

    child = fork(work)
    write_and_read(store, "parent")
    join(child)
    names = [f"a/{who}-{number}" for who in ("parent", "child") for number in range(30)]
    assert None not in store.read(names)
    write_and_read(store, "parent-again")


def write_and_read(store: Store, who: str) -> None:
    assert store.read(["a/before"]) == [b"before"]
    for number in range(30):
        store.write({f"a/{who}-{number}": who.encode()})
        assert store.read([f"a/{who}-{number}"]) == [who.encode()]


def outlive_the_parent(url: str) -> None:
    """Go on in the child after the parent closed the store and another process used it."""
    store = open_store(url)
    store.write({"a/before": b"before"})
    written, closed = os.pipe(), Gate()

    def child() -> None:
        store.write({"a/child": b"1"})
        os.write(written[1], b"x")
        closed.wait()
        write_and_read(store, "orphan")

    def another() -> None:
        with open_store(url) as other:
            assert other.read(["a/child"]) == [b"1"]
            other.write({"a/another": b"1"})

    orphan = fork(child)
    os.close(written[1])
    assert os.read(written[0], 1)
    store.close()
    join(fork(another))
    closed.open()
    join(orphan)
    with open_store(url) as again:
        found = set(again.keys())
    expected = {"a/before", "a/child", "a/another", *(f"a/orphan-{n}" for n in range(30))}
    assert found == expected, expected ^ found


def fork_amid_threads(url: str) -> None:
    """Fork again and again while threads are inside the store."""
    store = open_store(url)
    store.write({"a/before": b"before"})
    stop = threading.Event()

    def hammer(thread: int) -> None:
        while not stop.is_set():
            store.write({f"b/{thread}-{part}": b"x" * 2000 for part in range(20)})
            store.read([f"b/{thread}-{part}" for part in range(20)])

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(15):

            def work(number: int = number) -> None:
                write_and_read(store, f"child-{number}")

            join(fork(work))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if not url.startswith("memory"):
        names = [f"a/child-{number}-{turn}" for number in range(15) for turn in range(30)]
        assert None not in store.read(names)
