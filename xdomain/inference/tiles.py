"""Large images in overlapping tiles, without torch."""

from collections.abc import Callable, Sequence

import numpy as np

from xdomain.inference.plain import to_float, to_uint8

STRAIGHT = 2**20
"""Pixels of the largest image that is translated in one piece: a map of 64 channels then takes 268 MB, and a network
holds about three of them at once."""
TILE, OVERLAP, FADE = 896, 256, 64
"""Largest side of a tile, what neighbours share, and the middle of that in which one fades into the other, in pixels.
The 96 on either side are more than what CycleGAN's generator with 9 blocks sees around a pixel."""


def at_own_size(image: np.ndarray, run: Callable[[np.ndarray], np.ndarray], stride: int) -> np.ndarray:
    """A translation of an image as it is: in one piece, or else :func:`tiled`, with the same arguments."""
    return tiled(image, run, stride) if needs_tiles(image.shape) else to_uint8(run(to_float(image)))


def needs_tiles(shape: Sequence[int]) -> bool:
    """Whether an image of a shape [..., H, W] is too large for one piece."""
    return shape[-2] * shape[-1] > STRAIGHT


def tiled(image: np.ndarray, run: Callable[[np.ndarray], np.ndarray], stride: int) -> np.ndarray:
    """A translation of a large image, tile by tile, with neighbours that fade into each other.

    Where a network sees no farther than the 96 pixels on either side of a fading, this is its translation of the whole
    image. Statistics over a whole map, as of InstanceNorm, are those of a tile.

    Args:
        image: ``uint8`` [C, H, W].
        run: translates float [C, h, w] in [-1, 1] to [C', h, w]; h and w are multiples of the stride but at the end.
        stride: of the network.

    Returns:
        ``uint8`` [C', H, W].
    """
    (_, height, width), overlap = image.shape, -(-OVERLAP // stride) * stride
    rows, columns = spans(height, stride), spans(width, stride)
    result, below = np.empty((0, 0, 0), np.uint8), np.zeros((0, 0, 0), np.float32)
    for i, (top, bottom) in enumerate(rows):
        strip = np.zeros((0, 0, 0), np.float32)
        for j, (left, right) in enumerate(columns):
            made = run(to_float(image[:, top:bottom, left:right]))
            if not strip.size:
                strip = np.zeros((len(made), bottom - top, width), np.float32)
            strip[:, :, left:right] += made * _weights(right - left, j > 0, j < len(columns) - 1, overlap)
        strip *= _weights(bottom - top, i > 0, i < len(rows) - 1, overlap)[:, None]
        if i:
            strip[:, :overlap] += below
        else:
            result = np.empty((len(strip), height, width), np.uint8)
        end = rows[i + 1][0] if i < len(rows) - 1 else height
        result[:, top:end] = to_uint8(strip[:, : end - top])
        below = strip[:, end - top :].copy()
    return result


def spans(length: int, stride: int) -> list[tuple[int, int]]:
    """Beginning and end of the tiles of a side, about equally long; all begin at multiples of the stride."""
    overlap = -(-OVERLAP // stride) * stride
    tile = max(TILE // stride * stride, overlap + stride)
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    step = -(-(length - overlap) // (count * stride)) * stride
    return [(start, min(start + step + overlap, length)) for start in range(0, length - overlap, step)]


def _weights(length: int, before: bool, after: bool, overlap: int) -> np.ndarray:
    """Shares of a tile along a side, float32 [length]; those of two neighbours add up to 1."""
    fade = np.clip((np.arange(overlap) + 0.5 - (overlap - FADE) / 2) / FADE, 0, 1).astype(np.float32)
    weights = np.ones(length, np.float32)
    if before:
        weights[:overlap] = fade
    if after:
        weights[length - overlap :] = 1 - fade
    return weights
