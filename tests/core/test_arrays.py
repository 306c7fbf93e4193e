"""Memory that is used again, and never while anybody can still see it."""

import gc
import multiprocessing
import os
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core import arrays

MEGABYTE = 2**20
FLOAT = np.dtype(np.float32)


def large(megabytes=8):
    return arrays.empty((megabytes * MEGABYTE // 4 // 256, 256), FLOAT)


def address(array):
    return array.__array_interface__["data"][0]


def free_bytes():
    return sum(map(len, arrays._free))


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    arrays._free.clear()


def test_an_array_is_like_any_other():
    array = large()
    array[:] = 7
    assert array.shape == (8192, 256)
    assert array.dtype == np.float32
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.sum(dtype=np.float64) == 7 * array.size


def test_a_small_array_owns_its_memory():
    assert arrays.empty((3, 4), FLOAT).flags.owndata
    assert arrays.empty((0, 4), FLOAT).shape == (0, 4)
    assert arrays.empty((5, 0), FLOAT).shape == (5, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="memory is left to the allocator there")
def test_memory_is_used_again_when_nobody_refers_to_it():
    first = large()
    where = address(first)
    del first
    assert free_bytes() == 8 * MEGABYTE
    assert address(large()) == where


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array[5:9, 3],
        lambda array: array.T[::2][1:],
        lambda array: memoryview(array),
        lambda array: memoryview(array[7]),
        lambda array: array.data,
        lambda array: np.frombuffer(memoryview(array).cast("B"), np.uint8)[100:],
        lambda array: array.view(np.uint32),
        lambda array: array.reshape(-1),
        lambda array: np.asarray(array)[None],
        lambda array: np.from_dlpack(array),
        lambda array: iter(array),
        lambda array: next(iter(array)),
        lambda array: array.__array_interface__ and [array],
    ],
)
def test_memory_that_anybody_can_see_is_not_used_again(hold):
    array = large()
    where = address(array)
    held = hold(array)
    del array
    gc.collect()
    other = large()
    assert free_bytes() == 0
    assert address(other) != where
    del held
    gc.collect()
    assert address(large()) == where


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_what_is_in_an_array_stays_there_whatever_comes_and_goes(data):
    held: list[tuple[np.ndarray, float]] = []
    for mark in range(data.draw(st.integers(1, 12))):
        if held and data.draw(st.booleans()):
            held.pop(data.draw(st.integers(0, len(held) - 1)))
        array = large(data.draw(st.sampled_from([4, 5, 8, 15])))
        array[:] = mark
        held.append((array[1:] if data.draw(st.booleans()) else array, mark))
        del array
        for rows, expected in held:
            assert rows[0, 0] == rows[-1, -1] == expected
            assert (rows[:: len(rows) // 7] == expected).all()


def test_no_more_is_kept_than_is_said():
    many = [large(40) for _ in range(6)]
    too_large = large(arrays.KEPT // MEGABYTE + 1)
    del many, too_large
    assert 0 < free_bytes() <= arrays.KEPT


def test_memory_much_larger_than_needed_is_left_for_others():
    first = large(40)
    where = address(first)
    del first
    small = large(8)
    assert address(small) != where
    assert address(large(33)) == where


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_has_memory_of_its_own():
    array, spare = large(), large()
    array[:] = 1
    del spare
    pipe, theirs = multiprocessing.get_context("fork").Pipe()
    if (child := os.fork()) == 0:
        mine = large()
        mine[:] = 2
        array[:] = 3
        theirs.send(float(mine[0, 0]))
        os._exit(0)
    assert pipe.poll(30)
    assert pipe.recv() == 2
    os.waitpid(child, 0)
    assert (array == 1).all()
    again = large()
    again[:] = 5
    assert (array == 1).all()


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(mark):
        for _ in range(60):
            array = large(4)
            array[:] = mark
            if not (array[::50] == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
