"""Where images come from and translations go to, checked before any work; without torch."""

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.errors import UserError, refuse
from xdomain.pixels import found_images
from xdomain.running.outputs import check_folder

PathLike = str | os.PathLike[str]
UNUSABLE_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
"""Errors of a file system for a name that it does not accept."""
_KEPT: ContextVar[list[UserError] | None] = ContextVar("_KEPT", default=None)


class Translated(NamedTuple):
    """Number of images that were translated, and of images and guides that were skipped.

    ``enlarged`` of the images are larger than what the method saw of them, and only changed where it changed that.
    """

    images: int
    skipped: int
    skipped_guides: int
    enlarged: int


def listed(path: Path) -> tuple[Path, list[Path]]:
    """A folder of images and the names of its files; a warning counts those that are passed over."""
    folder, names, passed = found_images(path)
    if passed:
        warnings.warn(passed, stacklevel=3)
    return folder, names


def files_of(option: str, path: PathLike) -> list[Path]:
    """The image files at the path that an option names; see :func:`listed`."""
    if not Path(path).exists():
        refuse(None, option, path, ", which does not exist: give an image file or a folder of them.")
    folder, names = listed(Path(path))
    return [folder / name for name in names]


def output_files(
    output: Path, source: Path, folder: Path, names: Sequence[Path], others: dict[str, PathLike | None], as_png: bool
) -> list[Path]:
    """The output file of every image."""
    _check_output(output, source, folder, "input")
    for of, path in others.items():
        if path is not None:
            given = Path(path)
            _check_output(output, given, given if given.is_dir() else given.parent, of)
    files = [output / name for name in names]
    for parent in {file.parent for file in files}:
        if not parent.resolve().is_relative_to(output.resolve()):
            raise UserError(f"{parent} is a link that leads out of the output folder: remove it, or give another.")
    if as_png:
        files = [file if file.suffix.lower() == ".png" else file.with_suffix(".png") for file in files]
        image_of: dict[Path, Path] = {}
        for name, file in zip(names, files, strict=True):
            if image_of.setdefault(file, name) != name:
                raise UserError(f"{image_of[file]} and {name} would both become {file}: rename one of them.")
    return files


def _check_output(output: Path, source: Path, folder: Path, of: str) -> None:
    check_folder(output)
    inside = source.is_dir() and output.resolve().is_relative_to(folder.resolve())
    if inside or output.resolve() == folder.resolve():
        raise UserError(f"the output {output} lies in the folder of the {of}: give one outside of it.")


def written(write: Callable[[], None]) -> bool:
    """Whether a file was written: a name that the file system does not accept is reported instead."""
    try:
        write()
    except UserError as error:
        if getattr(error.__cause__, "errno", None) not in UNUSABLE_NAMES:
            raise
        tell_skipped(error)
        return False
    return True


def tell_tiles(name: Path, shape: Sequence[int], straight: int) -> None:
    """Say on standard error that large images are translated in tiles."""
    height, width = shape[-2:]
    tqdm.write(
        f"xdomain: {name} has {width}x{height} pixels: images of more than {straight:,} are translated in overlapping "
        "tiles that fade into each other, or smaller by --size model.",
        file=sys.stderr,
    )


def tell_skipped(error: UserError) -> None:
    """Say on standard error, above a progress bar, why a file is skipped; see :func:`kept`."""
    if (reasons := _KEPT.get()) is not None:
        reasons.append(error)
    else:
        tqdm.write(f"xdomain: skipped: {error}", file=sys.stderr)


@contextmanager
def kept() -> Iterator[list[UserError]]:
    """Why files are skipped inside the block, as a list instead of on standard error."""
    reasons: list[UserError] = []
    token = _KEPT.set(reasons)
    try:
        yield reasons
    finally:
        _KEPT.reset(token)
