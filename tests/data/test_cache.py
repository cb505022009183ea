"""Worlds on disk: made once, mapped, continued after an interruption."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xdomain.data import cache as module
from xdomain.data.cache import cached_arrays
from xdomain.errors import UserError


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


# ---------------------------------------------------------------- damage


@pytest.fixture
def made(cache):
    """The folder of finished arrays."""
    cached_arrays("x", "key", 10, squares, piece=4)
    (folder,) = (cache / "worlds").iterdir()
    return folder


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda folder: flip(folder / "images.npy"),
    "a damaged header": lambda folder: flip(folder / "images.npy", 3),
    "another shape": lambda folder: np.save(folder / "images.npy", np.arange(11)),
    "another type": lambda folder: np.save(folder / "labels.npy", np.full((10, 2), np.nan)),
    "cut off": lambda folder: os.truncate(folder / "images.npy", 150),
    "empty": lambda folder: (folder / "images.npy").write_bytes(b""),
    "an archive": lambda folder: (folder / "images.npy").write_bytes(b"PK\3\4" + bytes(300)),
    "absent": lambda folder: (folder / "labels.npy").unlink(),
    "objects": lambda folder: np.save(folder / "labels.npy", np.array([{}] * 10), allow_pickle=True),
    "no facts": lambda folder: (folder / "complete").write_text(""),
    "other facts": lambda folder: (folder / "complete").write_text('{"arrays": [1]}'),
    "facts of nothing": lambda folder: (folder / "complete").write_text('{"arrays": {"x": 1}, "states": []}'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_arrays_are_made_again(made, kind):
    DAMAGE[kind](made)
    arrays = cached_arrays("x", "key", 10, squares, piece=4)
    assert arrays["images"].tolist() == [n * n for n in range(10)]
    assert arrays["labels"].tolist() == [[n, -n] for n in range(10)]
    assert {path.name for path in made.iterdir()} == {"complete", "images.npy", "labels.npy", "lock", "rows"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "images.part").unlink(),
        lambda folder: flip(folder / "images.part", -8 * 5),
        lambda folder: np.save(folder / "x", np.arange(4)) or (folder / "x.npy").replace(folder / "images.part"),
        lambda folder: (folder / "rows").write_text("8"),
        lambda folder: (folder / "rows").write_text("8\0"),
        lambda folder: (folder / "rows").write_text((folder / "rows").read_text().replace("8", "99", 1)),
    ],
)
def test_damaged_beginnings_are_made_again(cache, damage):
    def dies(begin, end):
        if begin >= 8:
            raise KeyboardInterrupt
        return squares(begin, end)

    with pytest.raises(KeyboardInterrupt):
        cached_arrays("x", "key", 10, dies, piece=4)
    (folder,) = (cache / "worlds").iterdir()
    damage(folder)
    assert cached_arrays("x", "key", 10, squares, piece=4)["images"].tolist() == [n * n for n in range(10)]


def test_large_arrays_are_summed_only_when_their_files_were_touched(made, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "_checked", {})
    with monkeypatch.context() as patch:
        patch.setattr(module, "_sum", lambda array: pytest.fail("it is read"))
        assert cached_arrays("x", "key", 10, None)["images"][3] == 9
    flip(made / "images.npy")
    assert cached_arrays("x", "key", 10, squares)["images"].tolist() == [n * n for n in range(10)]


# ---------------------------------------------------------------- disks


def test_finished_arrays_need_no_place_that_can_be_written(made, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module, "FileLock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert cached_arrays("x", "key", 10, None)["images"][3] == 9
    flip(made / "images.npy")
    with pytest.raises(UserError, match=r"worlds/x-.* cannot be written \(Read-only file system\): make space or give"):
        cached_arrays("x", "key", 10, squares)


def test_a_place_that_is_no_folder(cache):
    cache.write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)"):
        cached_arrays("x", "key", 10, squares)


def test_space_is_reserved(made):
    status = (made / "images.npy").stat()
    assert status.st_blocks * 512 >= status.st_size


def test_a_full_disk_is_found_before_anything_is_drawn_into_it(cache, monkeypatch):
    def full(file, begin, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        cached_arrays("x", "key", 10, squares)
    (folder,) = (cache / "worlds").iterdir()
    assert [path.name for path in folder.iterdir()] == ["lock"]


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
