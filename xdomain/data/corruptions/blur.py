"""Blur: defocus, glass, motion, zoom, and Gaussian for validation."""

import math
from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from xdomain.data.corruptions.pixels import Bytes, Floats, to_bytes, to_unit
from xdomain.data.corruptions.table import Parameters

NOTHING = 1e-12
"""Weights of a kernel below this are left out."""
AT_ONCE = 1 << 20
"""Values of enlarged images that are held at a time."""


def defocus_blur(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Correlates with a disk; beyond the border the image is mirrored at its last pixels.

    Args:
        image: ``uint8`` [H, W, 3].
        values: radius of the disk, and sigma of the Gaussian that smooths it, in pixels.
    """
    return to_bytes(ndimage.correlate(to_unit(image), disk(*values)[:, :, None], mode="mirror"))


@lru_cache
def disk(radius: float, sigma: float) -> np.ndarray:
    """Kernel of a lens out of focus: a disk smoothed by a Gaussian of 3x3 pixels, or 5x5 for radii above 8.

    Returns:
        float64 [k, k], odd k, which sums to 1.
    """
    reach = 8 if radius <= 8 else math.ceil(radius)
    offsets = np.arange(-reach, reach + 1)
    inside = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    smooth = np.exp(-(taps**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    kernel = inside / inside.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, smooth, axis, mode="mirror")
    used = np.flatnonzero((kernel > NOTHING).any(0))
    kernel = kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1]
    kernel = np.where(kernel > NOTHING, kernel, 0.0)
    result: np.ndarray = kernel / kernel.sum()
    return result


def gaussian_blur(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Blurs with a Gaussian; beyond the border the last pixels are repeated.

    Args:
        image: ``uint8`` [H, W, 3].
        values: sigma in pixels.
    """
    return to_bytes(gaussian(to_unit(image), values[0]))


def gaussian(unit: Floats, sigma: float) -> Floats:
    """Gaussian over height and width, cut off at 4 sigma, with the last pixels repeated beyond the border."""
    blurred: Floats = ndimage.gaussian_filter(unit, sigma, mode="nearest", truncate=4.0, axes=(0, 1))
    return blurred


def glass_blur(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Blurs, lets every pixel take the place of a random neighbour, and blurs again.

    From the bottom right to the top left, a pixel becomes a copy of the neighbour, which itself stays. The scripts mean
    to exchange both, but what they exchange are views of one array; the published images have the copies.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: draws the neighbours, dx and dy of each pixel in turn.
        values: sigma of the blur; largest distance d of a neighbour, whose offsets are -d to d - 1; number of rounds.
    """
    sigma, distance, rounds = values[0], int(values[1]), int(values[2])
    height, width = image.shape[:2]
    blurred = to_bytes(gaussian(to_unit(image), sigma)).reshape(height * width, 3)
    rows = np.arange(height - distance, distance, -1)[:, None]
    columns = np.arange(width - distance, distance, -1)
    places = (rows * width + columns).ravel()
    origin = list(range(height * width))
    for _ in range(rounds):
        moves = rng.integers(-distance, distance, (len(places), 2))
        neighbours = places + moves[:, 1] * width + moves[:, 0]
        for place, neighbour in zip(places.tolist(), neighbours.tolist(), strict=True):
            origin[place] = origin[neighbour]  # in turn: what was copied may be copied on
    return to_bytes(gaussian(to_unit(blurred[origin].reshape(image.shape)), sigma))


def motion_blur(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Blurs along a line at a random angle of -45 to 45 degrees.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: draws the angle.
        values: radius and sigma of :func:`motion`.
    """
    blurred = motion(image.astype(np.float64), values[0], values[1], rng.uniform(-45, 45))
    result: np.ndarray = np.rint(blurred).astype(np.uint8)  # ImageMagick, which made the published images, rounds
    return result


def motion(picture: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """One-sided Gaussian blur along a line, like ImageMagick's; beyond the border the last pixels are repeated.

    Args:
        picture: float64 [H, W] or [H, W, C].
        radius: pixel number 0 to 2 * radius along the line are taken.
        sigma: of the Gaussian, in pixels.
        angle: of the line, in degrees.
    """
    height, width = picture.shape[:2]
    weights, offsets = line(int(radius), sigma, angle)
    reach = int(np.abs(offsets).max())
    padded = np.pad(picture, [(reach, reach)] * 2 + [(0, 0)] * (picture.ndim - 2), mode="edge")
    blurred, term = np.zeros_like(picture), np.empty_like(picture)
    for weight, (down, right) in zip(weights, offsets, strict=True):
        top, left = reach + down, reach + right
        np.multiply(padded[top : top + height, left : left + width], weight, out=term)
        blurred += term
    return blurred


def line(radius: int, sigma: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the pixels along a line, float64 [n] that sum to 1, and their offsets down and right, int64 [n, 2]."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    turn = math.radians(angle)
    offsets = np.ceil(steps[:, None] * np.array([math.sin(turn), math.cos(turn)]) - 0.5).astype(np.int64)
    used = weights > NOTHING * weights.sum()
    return weights[used] / weights[used].sum(), offsets[used]


def zoom_blur(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Mean of the image and its enlargements; the first factor is 1, so that the image itself counts twice.

    Args:
        image: ``uint8`` [H, W, 3].
        values: number of factors, and the step from one to the next.
    """
    count, step = int(values[0]), values[1]
    unit = to_unit(image)
    height, width = image.shape[:2]
    factors = tuple(1 + i * step for i in range(1, count))
    total = np.zeros((width, height * 3))
    for start in range(0, len(factors), piece := max(1, AT_ONCE // unit.size)):
        some = factors[start : start + piece]
        tall = _enlarging(height, some) @ unit.reshape(height, -1)
        turned = tall.reshape(len(some), height, width, 3).transpose(0, 2, 1, 3)
        total += _enlarging(width, some, add=True) @ turned.reshape(len(some) * width, -1)
    return to_bytes((2 * unit + total.reshape(width, height, 3).transpose(1, 0, 2)) / (count + 1))


def enlarged(layer: Floats, factor: float) -> Floats:
    """The centre of a plane [H, W], enlarged by a factor of at least 1 to the size of the whole."""
    rows, columns = (_enlarging(side, (factor,)) for side in layer.shape)
    whole: Floats = (columns @ (rows @ layer).T).T
    return whole


@lru_cache(maxsize=64)
def _enlarging(side: int, factors: tuple[float, ...], add: bool = False) -> sparse.csr_array:
    """Linear interpolation of the centre of a side to the whole side, as a matrix.

    The corners of the piece that is enlarged keep their places, like in scipy's zoom.

    Returns:
        [F * side, side], the enlargements one below the other, or with ``add`` [side, F * side], which takes the sides
        for all factors and adds their enlargements.
    """
    blocks = []
    for factor in factors:
        piece = math.ceil(side / factor)
        large = round(piece * factor)
        steps = np.arange(side) + (large - side) // 2
        places = np.minimum(steps * ((piece - 1) / max(large - 1, 1)), piece - 1)
        low = np.minimum(places.astype(np.int64), max(piece - 2, 0))
        high, share = np.minimum(low + 1, piece - 1), places - low
        columns = (side - piece) // 2 + np.concatenate([low, high])
        rows = np.tile(np.arange(side), 2)
        blocks.append(sparse.coo_array((np.concatenate([1 - share, share]), (rows, columns)), (side, side)))
    return (sparse.hstack if add else sparse.vstack)(blocks).tocsr()
