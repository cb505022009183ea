"""Writing files whole or not at all, and nowhere but in their own folder."""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from xdomain.errors import UserError

try:
    import fcntl
except ImportError:  # no Unix: what a killed process left stays
    fcntl = None  # type: ignore[assignment]

PARTIAL = re.compile(r"\.[0-9a-f]{16}\.part")
"""Names of what is being written."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under its name when it is complete; after an error or a kill the old one is left.

    It is written beside its place under a short name that nobody can foresee, and that must not exist: a link planted
    there leads nowhere. A link under the final name is replaced, not followed.

    Args:
        path: file to write or replace; missing folders are made.

    Raises:
        UserError: where it cannot be written, or where there is something that is no file, such as a device.

    Example:
        >>> with whole_file(Path("numbers.txt")) as file:
        ...     count = file.write(b"1 2 3")
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_replaceable(path)
        partial = _beside(path)
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            with _claimed(partial):
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder of files, which replaces a folder that is there.

    Args:
        path: folder to make or replace; missing parents are made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise UserError(f"{path} is no folder, and not replaced: remove it or give another.")
        partial = _beside(path)
        partial.mkdir()
        try:
            with _claimed(partial):
                yield partial
            if path.is_dir():  # for a moment there is neither: folders cannot be exchanged in one step
                old = _beside(path)
                path.rename(old)
                partial.rename(path)
                shutil.rmtree(old)
            else:
                partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; what another process is writing stays."""
    if not folder.is_dir():
        return
    for path in [path for path in folder.iterdir() if PARTIAL.fullmatch(path.name)]:
        with suppress(OSError), _claimed(path) as free:
            if free and path.is_dir():
                shutil.rmtree(path)
            elif free:
                path.unlink()


def cannot_write(path: Path, error: OSError) -> UserError:
    """The sentence about a place that cannot be written."""
    return UserError(f"{path} cannot be written: {error.strerror or error}.")


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.part")


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """While the block runs, a file or folder is that of this process; False where it is another one's."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):  # AttributeError: no fcntl, so that nobody knows
        return False
    return True


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.stat().st_mode  # what a link leads to: /dev/stdout is one
    except OSError:
        return  # nothing, or a link that leads nowhere
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise UserError(f"{path} is {kind}, and not replaced: give the name of a file.")
