import threading

from askonce.core import fork
from tests import alone
from tests.alone import join


def test_a_room_is_empty_while_it_is_held():
    tidied, inside, leave, got_in = [], threading.Event(), threading.Event(), threading.Event()
    room = fork.Room(lambda: tidied.append(True))

    def stay():
        with room:
            inside.set()
            leave.wait()
            assert not tidied

    def come_later():
        with room:
            got_in.set()

    first = threading.Thread(target=stay)
    first.start()
    inside.wait()
    assert not tidied
    leave.set()
    room.acquire()
    first.join()
    assert tidied == [True]
    second = threading.Thread(target=come_later)
    second.start()
    assert not got_in.is_set()
    room.release()
    second.join()
    assert got_in.is_set()


def fork_beside_busy_threads():
    lock, tidied, stop = threading.Lock(), [], threading.Event()
    fork.hold_still(lock)
    room = fork.Room(lambda: tidied.append(True))

    def busy():
        while not stop.is_set():
            with lock, room:
                pass
            with room:
                pass

    def child():
        assert lock.acquire(timeout=10)
        lock.release()
        with room:
            pass

    threads = [threading.Thread(target=busy) for _ in range(3)]
    forkers = [
        threading.Thread(target=lambda: join(*(alone.fork(child, within=20) for _ in range(20))))
        for _ in range(2)
    ]
    for thread in threads + forkers:
        thread.start()
    for forker in forkers:
        forker.join()
    stop.set()
    for thread in threads:
        thread.join()
    assert len(tidied) == 40


def test_no_child_inherits_a_lock_that_is_taken():
    alone.alone(fork_beside_busy_threads)
