"""Noise: Gaussian, shot, impulse, and speckle for validation."""

import numpy as np

from xdomain.data.corruptions.pixels import Bytes, to_bytes, to_unit
from xdomain.data.corruptions.table import Parameters


def gaussian_noise(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Adds normal noise.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: source of the random numbers.
        values: the standard deviation.
    """
    return to_bytes(to_unit(image) + values[0] * rng.standard_normal(image.shape))


def shot_noise(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Counts photons: every value becomes a Poisson number.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: source of the random numbers.
        values: photons that a white value has on average.
    """
    return to_bytes(rng.poisson(to_unit(image) * values[0]) / values[0])


def impulse_noise(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Salt and pepper, in each channel by itself.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: source of the random numbers.
        values: share of the values that become 0 or 255, half of them each.
    """
    draw = rng.random(image.shape)
    noisy = image.copy()
    noisy[draw < values[0]] = 255
    noisy[draw < values[0] / 2] = 0
    return noisy


def speckle_noise(image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
    """Adds normal noise in proportion to the value.

    Args:
        image: ``uint8`` [H, W, 3].
        rng: source of the random numbers.
        values: standard deviation on white.
    """
    unit = to_unit(image)
    return to_bytes(unit + unit * (values[0] * rng.standard_normal(image.shape)))
