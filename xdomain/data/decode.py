"""Image files as one ``uint8`` array: decoded, cropped and resized once, then memory-mapped."""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from PIL import Image
from pytorch_lightning.utilities import rank_zero_warn

from xdomain.data.cache import Arrays, cached_arrays
from xdomain.data.images import read_image
from xdomain.errors import UserError
from xdomain.pixels import bombs_refused

Interpolation = Literal["bilinear", "bicubic", "lanczos", "box"]

FILTERS = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos", "box")}
VERSION = 2
"""Increase it when decoding changes: files decoded by another version are decoded again."""
SHOWN = 5  # number of bad files named in a warning


@dataclass(frozen=True)
class Geometry:
    """How every image is cropped and resized.

    Attributes:
        size: height and width of the result in pixels.
        box: the crop: left, top, right and bottom as shares of width and height, rounded to whole pixels; ``"centre"``,
            the largest central square; None, the whole image. A crop that is not square is squashed to one. ``"pad"``
            keeps the whole image and its aspect ratio, and repeats the border pixels along the shorter side.
        interpolation: resizing filter, with antialiasing.
        aspect: required ratio of width to height before cropping, to half a pixel; None allows any.
    """

    size: int
    box: tuple[float, float, float, float] | Literal["centre", "pad"] | None = None
    interpolation: Interpolation = "bilinear"
    aspect: float | None = None


def decoded_images(
    name: str,
    folder: Path,
    files: Sequence[str | Path],
    channels: int,
    geometry: Geometry,
    on_bad_file: Literal["raise", "skip"] = "raise",
) -> tuple[np.ndarray, np.ndarray]:
    """Images of files, decoded once and kept in the cache folder.

    They are decoded again if a name, a file's size, modification time or permission, or the geometry changes. A file is
    bad if :func:`xdomain.data.images.read_image` or the geometry refuses it. A temporary failure, such as too many open
    files, is never recorded as bad.

    Args:
        name: readable prefix of the name in the cache.
        folder: where the files are.
        files: names relative to the folder, in the order of the result; at least one.
        channels: 1 for grey, 3 for RGB.
        geometry: crop and size.
        on_bad_file: refuse the first bad file, or leave a black image and warn.

    Returns:
        read-only memory-mapped images, ``uint8`` [N, channels, size, size], and which of them are good, ``bool`` [N].

    Raises:
        UserError: for a bad file that may not be skipped, or a temporary failure; the message names it.
        MemoryError: if there is too little memory for an image.
    """
    folder, names = folder.resolve(), [str(file) for file in files]
    key = json.dumps(
        [
            str(folder),
            channels,
            astuple(geometry),
            VERSION,
            PIL.__version__,
            [_version(folder / f) for f in names],
            names,
        ]
    )

    def good_or_none(file: str) -> np.ndarray | None:
        try:
            return decode_image(folder / file, channels, geometry)
        except UserError as error:
            if on_bad_file == "raise" or _may_pass(error.__cause__):
                raise
            return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, bombs_refused():

        def make(begin: int, end: int) -> Arrays:
            images = np.zeros((end - begin, channels, geometry.size, geometry.size), dtype=np.uint8)
            good = np.zeros(end - begin, dtype=bool)
            for i, image in enumerate(pool.map(good_or_none, names[begin:end])):
                if image is not None:
                    images[i], good[i] = image, True
            return {"images": images, "good": good}

        arrays = cached_arrays(name, key, len(names), make)
    bad = np.flatnonzero(~arrays["good"])
    if len(bad) and on_bad_file == "raise":  # decoded before with on_bad_file skip
        decode_image(folder / names[bad[0]], channels, geometry)
    if len(bad):
        more = f" and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
        shown = ", ".join(names[i] for i in bad[:SHOWN])
        rank_zero_warn(
            f"{len(bad):,} of the {len(names):,} images in {folder} cannot be used and are left out: {shown}{more}; "
            "`xdomain data check` tells why."
        )
    return arrays["images"], arrays["good"]


def decode_image(path: Path, channels: int, geometry: Geometry) -> np.ndarray:
    """One file as ``uint8`` [channels, size, size].

    Raises:
        UserError: for a file that is refused; the message names it.
    """
    pixels = read_image(path, channels).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    if geometry.aspect is not None and abs(width - geometry.aspect * height) > 0.5:
        raise UserError(
            f"{path} has {width}x{height} pixels, but its width must be {geometry.aspect:g} times its height: replace "
            "or remove it."
        )
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    across = down = outer = geometry.size
    if geometry.box == "pad":
        across, down = (max(1, round(side * outer / max(width, height))) for side in (width, height))
    box = _pixel_box(geometry.box, width, height)
    resized = np.asarray(image.crop(box).resize((across, down), FILTERS[geometry.interpolation]))
    resized = resized.reshape(down, across, channels)
    if (down, across) != (outer, outer):
        missing = [((outer - side) // 2, (outer - side + 1) // 2) for side in (down, across)]
        resized = np.pad(resized, [*missing, (0, 0)], mode="edge")
    return resized.transpose(2, 0, 1)


def _pixel_box(
    box: tuple[float, float, float, float] | Literal["centre", "pad"] | None, width: int, height: int
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in whole pixels, at least one pixel wide and high."""
    if box is None or box == "pad":
        return 0, 0, width, height
    if box == "centre":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
    left, top = min(round(box[0] * width), width - 1), min(round(box[1] * height), height - 1)
    return left, top, max(round(box[2] * width), left + 1), max(round(box[3] * height), top + 1)


def file_versions(folder: Path, files: Mapping[tuple[str, str], Sequence[Path]]) -> list[Any]:
    """States of files, as plain types, which change when a file changes.

    Args:
        folder: folder that the names are relative to.
        files: paths by domain and split.
    """
    return [
        [*group, [[os.path.relpath(path, folder), _version(path)] for path in paths]] for group, paths in files.items()
    ]


def _may_pass(why: BaseException | None) -> bool:
    """Whether the failure is temporary: of the machine, not of the file."""
    return isinstance(why, OSError) and why.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


_with_times = ContextVar("_with_times", default=True)


@contextmanager
def without_times() -> Iterator[None]:
    """Let file versions be the same for a copy of the files, whose modification times differ."""
    before = _with_times.set(False)
    try:
        yield
    finally:
        _with_times.reset(before)


def _version(path: Path) -> tuple[int, int, bool] | None:
    """State of a file: size in bytes, modification time in ns and whether it is readable; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns if _with_times.get() else 0, os.access(path, os.R_OK)
