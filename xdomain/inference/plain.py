"""Sizes and ranges of images as in :mod:`xdomain.inference.sizes`, on arrays and without torch.

Images are [C, H, W]: ``uint8`` in [0, 255], or ``float32`` in [-1, 1].
"""

from typing import Any

import numpy as np
from PIL import Image

BAND = 512
"""Rows of a large picture that are computed at once, so that few copies of it as floats exist."""
A = -0.75
"""Shape of torch's bicubic kernel without antialiasing."""


def to_float(image: np.ndarray) -> np.ndarray:
    """Map ``uint8`` to ``float32``."""
    values: np.ndarray = image.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return values


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Map ``float32`` to ``uint8``; values outside the range are clamped."""
    values: np.ndarray = np.rint((image.clip(-1, 1) + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    return values


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image of either kind resized by antialiased bicubic interpolation; floats may leave the range a little."""
    if image.shape[1:] == (height, width):
        return image
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in image]
    mixed = np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes])
    return np.rint(mixed).clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else mixed


def shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    """A float image whose longer side is at most ``longest``, in its own aspect ratio."""
    height, width = image.shape[1:]
    if max(height, width) <= longest:
        return image
    size = (max(1, round(side * longest / max(height, width))) for side in (height, width))
    return resized(image, *size).clip(-1, 1)


def at_stride(image: np.ndarray, stride: int, least: int) -> np.ndarray:
    """An image continued to the right and below by its mirror images, up to multiples of a stride; see ``least``.

    Args:
        image: of any size.
        stride: of both sides.
        least: sides are not below it.
    """
    height, width = (max(side, least) + -max(side, least) % stride for side in image.shape[1:])
    return image[:, _mirrored(image.shape[1], height)][:, :, _mirrored(image.shape[2], width)]


def _mirrored(length: int, wanted: int) -> np.ndarray:
    """Places of a line that is mirrored at its ends until it is long enough, int64 [wanted]; the ends stand once."""
    places = np.arange(wanted) % max(2 * length - 2, 1)
    return np.minimum(places, 2 * length - 2 - places)


def with_change(image: np.ndarray, seen: np.ndarray, made: np.ndarray) -> np.ndarray:
    """A large image with the change that a method has made to a small copy of it: x + up(made - seen).

    Args:
        image: ``uint8`` [C, H, W].
        seen: what the method saw of it, float [C, h, w].
        made: what the method made of that, likewise.

    Returns:
        ``uint8`` [C, H, W].
    """
    change = _widened(made - seen, image.shape[2])
    result = np.empty_like(image)
    rows, weights = _taps(image.shape[1], change.shape[1])
    for start in range(0, image.shape[1], BAND):
        band = slice(start, start + BAND)
        added = sum(change[:, rows[k, band]] * weights[k, band, None] for k in range(4))
        result[:, band] = to_uint8(to_float(image[:, band]) + added)
    return result


def _widened(values: np.ndarray, size: int) -> np.ndarray:
    """Values [C, H, W] enlarged along the last axis by cubic interpolation without antialiasing."""
    places, weights = _taps(size, values.shape[2])
    wide: np.ndarray = sum(values[..., places[k]] * weights[k] for k in range(4))
    return wide


def _taps(size: int, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights, [4, size] both, of the four of ``own`` values between which each of ``size`` lies."""
    at = (np.arange(size) + 0.5) * (own / size) - 0.5
    first = np.floor(at).astype(np.int64)
    t = (at - first).astype(np.float32)
    weights = np.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)]).astype(np.float32)
    return np.clip(first + np.arange(-1, 3)[:, None], 0, own - 1), weights


def _near(x: np.ndarray) -> Any:
    return ((A + 2) * x - (A + 3)) * x * x + 1


def _far(x: np.ndarray) -> Any:
    return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
