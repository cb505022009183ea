"""What the corruptions share: the types of their arguments, and the ways between bytes and numbers."""

from collections.abc import Callable

import numpy as np

from xdomain.data.corruptions.table import Parameters

Bytes = np.ndarray
"""An image, ``uint8`` [H, W, 3]."""
Floats = np.ndarray
"""An image or one plane of it, ``float64`` [H, W, 3] or [H, W], in [0, 1]."""
Corruption = Callable[[Bytes, np.random.Generator, Parameters], Bytes]
"""Makes the corrupted image from an image, a generator of random numbers and the parameters of the severity."""


def to_unit(image: Bytes) -> Floats:
    """Bytes to float64 in [0, 1]."""
    unit: Floats = image / 255.0
    return unit


def to_bytes(unit: Floats) -> Bytes:
    """Float64 to bytes, clipped to [0, 1] and then cut off, not rounded, like in the scripts."""
    result: np.ndarray = (np.clip(unit, 0.0, 1.0) * 255).astype(np.uint8)
    return result
