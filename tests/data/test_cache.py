"""Worlds on disk: made once, mapped, continued after an interruption."""

import subprocess
import sys

import numpy as np
import pytest

from xdomain.data.cache import cached_arrays


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def squares(begin, end):
    numbers = np.arange(begin, end)
    return {"images": numbers**2, "labels": np.stack([numbers, -numbers], 1)}


def test_arrays_are_mapped_not_read():
    arrays = cached_arrays("x", "key", 10, squares, piece=4)
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in arrays.values())
    assert arrays["images"].tolist() == [n * n for n in range(10)]
    assert arrays["labels"].tolist() == [[n, -n] for n in range(10)]


def test_interrupted_making_goes_on_where_it_stopped(cache):
    class Killed(BaseException):
        pass

    made = []

    def dies(begin, end):
        if begin >= 8:
            raise Killed
        made.append((begin, end))
        return squares(begin, end)

    with pytest.raises(Killed):
        cached_arrays("x", "key", 10, dies, piece=4)
    assert not list(cache.rglob("*.npy"))  # nothing that a reader would take for whole

    def goes_on(begin, end):
        made.append((begin, end))
        return squares(begin, end)

    arrays = cached_arrays("x", "key", 10, goes_on, piece=4)
    assert made == [(0, 4), (4, 8), (8, 10)]
    assert arrays["images"].tolist() == [n * n for n in range(10)]


@pytest.mark.parametrize("renamed", [["images"], ["images", "labels"]])
def test_interrupted_renaming_goes_on(cache, renamed):
    cached_arrays("x", "key", 10, squares, piece=4)
    (folder,) = (cache / "worlds").iterdir()
    (folder / "complete").unlink()
    for path in folder.glob("*.npy"):
        if path.stem not in renamed:
            path.replace(path.with_suffix(".part"))
    arrays = cached_arrays("x", "key", 10, None, piece=4)
    assert arrays["images"].tolist() == [n * n for n in range(10)]
    assert set(arrays) == {"images", "labels"}


def test_no_rows():
    assert cached_arrays("x", "key", 0, squares)["labels"].shape == (0, 2)


def test_another_key_is_another_array():
    one = cached_arrays("x", "1", 1, lambda begin, end: {"a": np.zeros(1)})
    two = cached_arrays("x", "2", 1, lambda begin, end: {"a": np.ones(1)})
    assert (one["a"].item(), two["a"].item()) == (0, 1)


def test_two_processes_make_it_once(cache):
    code = """
import sys, time
import numpy as np
from xdomain.data.cache import cached_arrays

def make(begin, end):
    with open(sys.argv[1], "a") as log:
        log.write(f"{begin}\\n")
    time.sleep(0.05)
    return {"a": np.arange(begin, end)}

assert cached_arrays("x", "key", 12, make, piece=4)["a"].tolist() == list(range(12))
"""
    log = cache.parent / "log"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(log)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert log.read_text().split() == ["0", "4", "8"]
