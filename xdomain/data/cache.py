"""Arrays that are made once and memory-mapped from then on."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from xdomain.paths import cache_dir

Arrays = dict[str, np.ndarray]


def cached_arrays(name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache folder, made first if they are missing.

    Only one process makes them while the others wait; a file appears under its final name when it is complete, so an
    interrupted run leaves nothing that a later one would read.

    Args:
        name: readable beginning of the folder's name.
        key: everything that the content depends on; another key is another folder.
        make: called without arguments, returns the arrays by name.
    """
    folder = cache_dir() / "worlds" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "complete"
    with FileLock(folder / "lock"):
        if not done.exists():
            for array_name, array in make().items():
                _write(folder / f"{array_name}.npy", array)
            done.touch()
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _write(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
