"""Weather: snow, fog, brightness, and spatter for validation. Frost has a file of its own."""

import numpy as np
from scipy import ndimage

from xdomain.data.corruptions.blur import enlarged, gaussian, motion
from xdomain.data.corruptions.pixels import Bytes, Floats, to_bytes, to_unit
from xdomain.data.corruptions.table import Parameters

LUMA = np.array([0.299, 0.587, 0.114])
WATER = np.array([175, 238, 238]) / 255
MUD = np.array([63, 42, 20]) / 255
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
FARTHEST = 20  # from the edge of a drop, in pixels: its middle is flat
SOLID = 0.8  # share of mud around a pixel below which it stays clean


def snow(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Whitens the image and lets flakes fall, the same once more turned by 180 degrees.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: draws the flakes, then their angle of -135 to -45 degrees.
        values: mean and deviation of the noise that flakes are made of, its zoom, its threshold; radius and sigma of
            the motion blur; share of the image that is not whitened.
    """
    mean, deviation, zoom, threshold, radius, sigma, kept = values
    unit = to_unit(image)
    layer = enlarged(mean + deviation * rng.standard_normal(image.shape[:2]), zoom)
    layer[layer < threshold] = 0
    layer = np.rint(motion(to_bytes(layer).astype(np.float64), radius, sigma, rng.uniform(-135, -45))) / 255
    whitened = kept * unit + (1 - kept) * np.maximum(unit, (unit @ LUMA)[:, :, None] * 1.5 + 0.5)
    return to_bytes(whitened + (layer + layer[::-1, ::-1])[:, :, None])


def fog(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Adds clouds, and darkens the sum to the range of the image.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: draws the clouds.
        values: strength of the clouds, and by how much their deviations shrink from one scale to the next.
    """
    strength, decay = values
    unit = to_unit(image)
    height, width = image.shape[:2]
    clouds = plasma(1 << (max(height, width, 2) - 1).bit_length(), decay, rng)[:height, :width]
    brightest = unit.max()
    return to_bytes((unit + strength * clouds[:, :, None]) * brightest / (brightest + strength))


def plasma(side: int, decay: float, rng: np.random.Generator) -> Floats:
    """A height map by the diamond-square algorithm on a torus.

    Args:
        side: height and width, a power of two.
        decay: the deviations are divided by its square from one scale to the next.
        rng: draws the deviations of the squares, then of the two kinds of diamonds of each scale.

    Returns:
        float64 [side, side] from 0 to 1.
    """
    heights = np.zeros((side, side))
    step, wibble = side, 100.0

    def between(total: np.ndarray) -> np.ndarray:
        return total / 4 + wibble * rng.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = between(total + np.roll(total, -1, 1))
        middles = heights[half::step, half::step]
        heights[::step, half::step] = between(middles + np.roll(middles, 1, 0) + corners + np.roll(corners, -1, 1))
        heights[half::step, ::step] = between(middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 0))
        step, wibble = half, wibble / decay
    heights -= heights.min()
    result: np.ndarray = heights / heights.max()
    return result


def brightness(image: Bytes, _: np.random.Generator, values: Parameters) -> Bytes:
    """Adds to V of HSV, up to 1.

    Args:
        image: ``uint8`` [H, W, 3].
        values: the number that is added.
    """
    unit = to_unit(image)
    value = unit.max(2, keepdims=True)
    # With H and S fixed, all channels are in proportion to V; black is grey.
    colour = np.divide(unit, value, out=np.ones_like(unit), where=value > 0)
    return to_bytes(colour * np.minimum(value + values[0], 1))


def spatter(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Spots of water or of mud.

    The scripts find the edges of the drops by Canny's method; here they are the border of the mask.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: draws the spots.
        values: mean and deviation of the noise that spots are made of, the sigma that it is blurred by, its threshold;
            opacity of water or blur of mud; 0 for water, 1 for mud.
    """
    mean, deviation, sigma, threshold, strength, mud = values
    unit = to_unit(image)
    layer = gaussian(mean + deviation * rng.standard_normal(image.shape[:2]), sigma)
    if mud:
        cover = gaussian((layer > threshold).astype(np.float64), strength)
        cover[cover < SOLID] = 0
        return to_bytes(unit * (1 - cover[:, :, None]) + MUD * cover[:, :, None])
    layer[layer < threshold] = 0
    shine = np.floor(np.clip(layer, 0, 1) * 255) * _relief(layer > 0)
    if shine.max() > 0:
        shine *= strength / shine.max()
    return to_bytes(unit + shine[:, :, None] * WATER)


def _relief(drops: np.ndarray) -> np.ndarray:
    """Drops lit from the side, float64 [H, W] from 0 to 255.

    Args:
        drops: bool [H, W].
    """
    edges = drops & ~ndimage.binary_erosion(drops, np.ones((3, 3)), border_value=1)
    if not edges.any():
        return drops * 255.0
    away = np.minimum(ndimage.distance_transform_edt(~edges), FARTHEST)
    away = np.rint(ndimage.uniform_filter(away, 3, mode="mirror")).astype(np.uint8)
    lit = ndimage.correlate(_equalized(away).astype(np.float64), EMBOSS, mode="mirror")
    relief: np.ndarray = ndimage.uniform_filter(np.clip(lit, 0, 255), 3, mode="mirror")
    return relief


def _equalized(picture: np.ndarray) -> np.ndarray:
    """Equalise the histogram of an ``uint8`` [H, W]: the lowest value that occurs becomes 0, the highest 255."""
    below = np.bincount(picture.ravel(), minlength=256).cumsum()
    lowest = below[picture.min()]
    spread = (below - lowest) / max(picture.size - lowest, 1)
    result: np.ndarray = np.rint(255 * np.clip(spread, 0, 1)).astype(np.uint8)[picture]
    return result
