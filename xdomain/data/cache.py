"""Arrays that are computed once and then memory-mapped."""

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.errors import UserError
from xdomain.paths import cache_dir

Arrays = dict[str, np.ndarray]
Facts = dict[str, dict[str, Any]]
"""Maps the name of an array to its ``dtype``, ``shape`` and the checksum ``crc`` of its rows."""

PIECE = 1024  # rows computed and written per step
CHUNK = 1 << 24  # bytes per step of a checksum
LARGE = 1 << 30  # larger arrays are checked again only if their file was modified

_checked: dict[Path, list[tuple[int, int]]] = {}
"""Maps a folder to the states of its files when this process computed their checksums."""


def cached_arrays(name: str, key: str, count: int, make: Callable[[int, int], Arrays], piece: int = PIECE) -> Arrays:
    """Arrays from the cache folder; computed first if they are missing or damaged.

    Only one process computes them while the others wait. Their disk space is reserved first. They are computed and
    written piece by piece: after an interruption the next call continues with the finished pieces. A file gets its
    final name when it is complete, so that nobody reads half of it. Every array has a checksum, which is verified once
    per process (100 MB in 0.1 s); arrays above 1 GB are checked only if their size or modification time differs.
    Complete arrays are only read: their folder need not be writable.

    Args:
        name: readable prefix of the folder's name.
        key: everything that the arrays depend on; another key gives another folder.
        count: number of rows.
        make: computes the rows from ``begin`` (included) to ``end`` (excluded) of every array, by name.
        piece: rows per call of ``make``.

    Returns:
        read-only memory-mapped arrays of ``count`` rows, by name.

    Raises:
        UserError: if the cache folder cannot be written or has too little space; no unfinished files stay.
    """
    folder = cache_dir() / "worlds" / f"{name}-{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:12]}"
    if (arrays := _complete(folder)) is not None:
        return arrays
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if (arrays := _complete(folder)) is None:
                _fill(folder, name, count, make, piece)
                arrays = _complete(folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): make space or give the right to write there, or "
            "let the environment variable XDOMAIN_CACHE name another folder."
        ) from error
    assert arrays is not None
    return arrays


def _complete(folder: Path) -> Arrays | None:
    """The arrays of a folder, or None if they are unfinished or damaged."""
    try:
        known = json.loads((folder / "complete").read_text())
        files = [folder / f"{name}.npy" for name in known["arrays"]]
        states = [_state(file) for file in files]
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in files}
        if _checked.get(folder) != states:
            large = sum(array.nbytes for array in arrays.values()) >= LARGE
            untouched = large and states == [tuple(state) for state in known["states"]]
            if not _fits(arrays, known["arrays"], sums=not untouched):
                return None
            _checked[folder] = states
    except Exception:  # any error that a damaged file causes
        return None
    return arrays


def _fits(arrays: Arrays, facts: Facts, rows: int | None = None, sums: bool = True) -> bool:
    """Whether the first rows of arrays (None: all) match their checksums."""
    for name, array in arrays.items():
        known = facts[name]
        if array.dtype.str != known["dtype"] or [*array.shape] != known["shape"]:
            return False
        if sums and _sum(array[:rows]) != known["crc"]:
            return False
    return True


def _sum(array: np.ndarray) -> int:
    flat, step = array.reshape(-1), max(1, CHUNK // array.itemsize)
    result = 0
    for begin in range(0, len(flat), step):
        result = zlib.crc32(flat[begin : begin + step].tobytes(), result)
    return result


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _fill(folder: Path, name: str, count: int, make: Callable[[int, int], Arrays], piece: int) -> None:
    """Compute the missing rows of the ``.part`` files, after the first ``rows``, and give them their final names."""
    begin, files, facts = _begun(folder, count)
    if not files:
        _clear(folder)
    try:
        with tqdm(total=count, initial=begin, desc=name, unit="image", disable=None, delay=2) as bar:
            while begin < count or not files:  # at least once, even without rows: the files must be created
                end = min(begin + piece, count)
                for array_name, rows in make(begin, end).items():
                    if array_name not in files:
                        path, shape = folder / f"{array_name}.part", (count, *rows.shape[1:])
                        files[array_name] = _reserved(path, rows.dtype, shape)
                        facts[array_name] = {"dtype": rows.dtype.str, "shape": [*shape], "crc": 0}
                    files[array_name][begin:end] = rows
                    files[array_name].flush()
                    facts[array_name]["crc"] = zlib.crc32(rows.tobytes(), facts[array_name]["crc"])
                _write(folder / "rows", {"rows": end, "arrays": facts})
                bar.update(end - begin)
                begin = end
        for path in folder.glob("*.part"):
            path.replace(path.with_suffix(".npy"))
        states = [_state(folder / f"{array_name}.npy") for array_name in facts]
        _write(folder / "complete", {"arrays": facts, "states": states})
    except (OSError, UserError):  # not for what stops the process: then the next call continues
        _clear(folder)
        raise


def _begun(folder: Path, count: int) -> tuple[int, dict[str, np.memmap], Facts]:
    """Number of valid rows left by an interrupted call, their files and their facts."""
    try:
        known = json.loads((folder / "rows").read_text())
        begin, facts = known["rows"], known["arrays"]
        paths = {name: folder / f"{name}.part" for name in facts}
        files = {
            name: np.load(path if path.exists() else path.with_suffix(".npy"), mmap_mode="r+")
            for name, path in paths.items()
        }
        if 0 <= begin <= count and all(len(file) == count for file in files.values()) and _fits(files, facts, begin):
            return begin, files, facts
    except Exception:  # nothing there, or any error that a damaged file causes
        pass
    return 0, {}, {}


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _reserved(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new array in a file with reserved space: without it, a full disk kills the writing process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _write(path: Path, content: Any) -> None:
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(content))
    partial.replace(path)
