"""Threads around a model: order, errors and interruptions as without them."""

import threading
import time
from contextlib import closing

import pytest

from xdomain.inference.threads import THREADS, Behind, ahead, depth_for


def slow_first(i):
    time.sleep(0.02 if i == 0 else 0)
    return i * i


def test_results_come_in_order_and_only_some_ahead():
    begun, lock = [], threading.Lock()

    def square(i):
        with lock:
            begun.append(i)
        return slow_first(i)

    with closing(ahead(square, range(30), 3)) as results:
        assert next(results) == 0
        assert max(begun) <= 3
        assert list(results) == [i * i for i in range(1, 30)]


def test_an_error_is_raised_in_its_place():
    def fails(i):
        if i == 2:
            raise ValueError("two")
        return i

    found = []
    with pytest.raises(ValueError, match="two"), closing(ahead(fails, range(9), 4)) as results:
        found.extend(results)
    with closing(ahead(fails, range(2), 4)) as results:
        assert list(results) == [0, 1]
    before = threading.active_count()
    with closing(ahead(slow_first, range(9), 4)) as results:
        next(results)
    assert threading.active_count() <= before  # those that were begun have ended


def test_all_is_handed_over_in_order_by_the_calling_thread():
    taken, thread = [], threading.get_ident()

    def take(value):
        assert threading.get_ident() == thread
        taken.append(value)

    with Behind(take, 2) as behind:
        for i in range(20):
            behind.do(slow_first, i)
            assert len(taken) >= i - 2
    assert taken == [i * i for i in range(20)]


def handed(function, take, depth, items, at_last=None):
    """Do a function for all items, and raise an exception at last, if any."""
    with Behind(take, depth) as behind:
        for i in items:
            behind.do(function, i)
        if at_last is not None:
            raise at_last


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_finished_before_an_error_is_handed_over(error):
    taken = []
    with pytest.raises(error):
        handed(slow_first, taken.append, 5, range(3), error)
    assert taken == [0, 1, 4]


def test_nothing_is_handed_over_after_it_was_refused():
    taken = []

    def take(value):
        if value == 4:
            raise OSError("the disk is full")
        taken.append(value)

    with pytest.raises(OSError, match="full"):
        handed(slow_first, take, 1, range(9))
    assert taken == [0, 1]


def test_an_error_of_the_work_itself_ends_it_once():
    def fails(i):
        if i == 1:
            raise ValueError("one")
        return i

    taken = []
    with pytest.raises(ValueError, match="one"):
        handed(fails, taken.append, 9, range(4))
    assert taken[0] == 0


def test_fewer_large_pictures_wait_than_small_ones():
    assert depth_for([(64, 64)] * 64, 64) == 64
    assert depth_for([(3000, 4000)] * 2, 64) == THREADS
