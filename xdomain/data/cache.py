"""Arrays that are made once and memory-mapped from then on."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.paths import cache_dir

Arrays = dict[str, np.ndarray]
PIECE = 1024  # rows that are made and written at a time


def cached_arrays(name: str, key: str, count: int, make: Callable[[int, int], Arrays], piece: int = PIECE) -> Arrays:
    """Arrays from the cache folder, made first if they are missing.

    Only one process makes them while the others wait. They are made and written piece by piece: what was finished
    before an interruption is kept, and the next call goes on there. A file appears under its final name when it is
    complete, so nobody reads half of one.

    Args:
        name: readable beginning of the folder's name.
        key: everything that the content depends on; another key is another folder.
        count: number of rows.
        make: gives the rows from ``begin`` (included) to ``end`` (excluded) of every array, by name.
        piece: rows per call of ``make``.

    Returns:
        read-only memory-mapped arrays of ``count`` rows, by name.
    """
    folder = cache_dir() / "worlds" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "complete"
    with FileLock(folder / "lock"):
        if not done.exists():
            _fill(folder, name, count, make, piece)
            for path in folder.glob("*.part"):
                path.replace(path.with_suffix(".npy"))
            done.touch()
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _fill(folder: Path, name: str, count: int, make: Callable[[int, int], Arrays], piece: int) -> None:
    """Write the missing rows of the ``.part`` files; ``rows`` says how many are there."""
    state = folder / "rows"
    begin = int(state.read_text()) if state.exists() else 0
    files = {path.stem: np.load(path, mmap_mode="r+") for path in folder.glob("*.part")} if begin else {}
    with tqdm(total=count, initial=begin, desc=name, unit="image", disable=None, delay=2) as bar:
        while begin < count or not state.exists():  # once even for no rows: the files must come to be
            end = min(begin + piece, count)
            for array_name, rows in make(begin, end).items():
                if array_name not in files:
                    files[array_name] = np.lib.format.open_memmap(
                        folder / f"{array_name}.part", mode="w+", dtype=rows.dtype, shape=(count, *rows.shape[1:])
                    )
                files[array_name][begin:end] = rows
                files[array_name].flush()
            partial = folder / "rows.new"
            partial.write_text(str(end))
            partial.replace(state)
            bar.update(end - begin)
            begin = end
    for array in files.values():
        array.flush()
