"""Digital corruptions: contrast, elastic transform, pixelate, JPEG, and saturate for validation."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from xdomain.data.corruptions.pixels import Bytes, to_bytes, to_unit
from xdomain.data.corruptions.table import Parameters


def contrast(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Brings every value nearer to the mean of its channel.

    Args:
        image: ``uint8`` [H, W, 3].
        values: factor of the distances from the mean.
    """
    unit = to_unit(image)
    means = unit.mean((0, 1), keepdims=True)
    return to_bytes((unit - means) * values[0] + means)


def elastic_transform(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """A random affine map, and then a random field of displacements.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: draws where three points go, then the displacements to the right and down.
        values: strength and smoothness of the displacements, and largest move of the points, as shares of the last
            value, a length in pixels.
    """
    length = values[3]
    strength, sigma, most = (value * length for value in values[:3])
    unit = to_unit(image)
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    matrix, shift = affine(height, width, rng.uniform(-most, most, (3, 2)))
    down, right = np.tensordot(matrix, np.stack([rows, columns]), 1) + shift[:, None, None]
    unit = _sampled(unit, down, right, "mirror")
    if strength:
        right, down = (strength * _smooth(rng.uniform(-1, 1, (height, width)), sigma) for _ in range(2))
        unit = _sampled(unit, rows + down, columns + right, "reflect")
    return to_bytes(unit)


def affine(height: int, width: int, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of an image come from when three points around its centre are moved.

    Args:
        height: of the image.
        width: of the image.
        moves: float64 [3, 2], down and right, of the points that lie a third of the shorter side below and to the right
            of the centre, below and to the left, above and to the left.

    Returns:
        a matrix [2, 2] and a shift [2]: a pixel (row, column) shows what was at matrix @ (row, column) + shift.
    """
    away = min(height, width) // 3
    before = np.array([height // 2, width // 2]) + away * np.array([[1, 1], [1, -1], [-1, -1]])
    after = np.column_stack([before + moves, np.ones(3)])
    solution = np.linalg.solve(after, before.astype(np.float64))
    return solution[:2].T, solution[2]


def _smooth(field: np.ndarray, sigma: float) -> np.ndarray:
    smooth: np.ndarray = ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3.0) if sigma else field
    return smooth


def _sampled(unit: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """An image at other places, by linear interpolation; float64 [H, W, 3]."""
    channels = np.moveaxis(unit, 2, 0)
    return np.stack([ndimage.map_coordinates(c, (rows, columns), order=1, mode=mode) for c in channels], 2)


def pixelate(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Shrinks and enlarges again, both by box filters.

    Args:
        image: ``uint8`` [H, W, 3].
        values: share of the sides that remains.
    """
    height, width = image.shape[:2]
    small = (max(1, int(width * values[0])), max(1, int(height * values[0])))
    picture = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.array(picture.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Writes and reads a JPEG.

    Args:
        image: ``uint8`` [H, W, 3].
        values: its quality.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(values[0]))
    return np.array(Image.open(file, formats=["JPEG"]))


def saturate(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Multiplies S of HSV and adds to it, from 0 to 1.

    Args:
        image: ``uint8`` [H, W, 3].
        values: factor and summand.
    """
    unit = to_unit(image)
    value, least = unit.max(2, keepdims=True), unit.min(2, keepdims=True)
    spread = value - least
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    saturation = np.clip(saturation * values[0] + values[1], 0, 1)
    # How far a channel is below V, as a share of the lowest one's: given by the hue, which is red for grey.
    red = np.broadcast_to(np.array([0.0, 1.0, 1.0]), unit.shape).copy()
    depth = np.divide(value - unit, spread, out=red, where=spread > 0)
    return to_bytes(value - value * saturation * depth)
