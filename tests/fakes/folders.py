"""Fake folders of image files. Every file's content is unique, and a pixel tells which file it came from."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, number: int, width: int = 12, height: int = 10) -> np.ndarray:
    """Noise drawn from a number, ``uint8`` [H, W, 3]; a lossless ending gives it back."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_flat(path: Path, value: int, size: int = 8) -> None:
    """A grey picture of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), value).save(path)


def write_layout(root: Path, **counts: int) -> None:
    """Folders such as ``trainA=3``: flat pictures, the value of which counts up through all folders as given."""
    value = 0
    for folder, count in counts.items():
        for i in range(count):
            write_flat(root / folder / f"{i:03d}.png", value)
            value += 1


def write_facades(root: Path, size: int = 8, **counts: int) -> None:
    """``facades/<split>/<number>.jpg``: a photo half of value 10 + 4 n and a label half of value 130 + 4 n.

    ``n`` counts up through all splits as given.
    """
    n = 0
    for split, count in counts.items():
        for i in range(count):
            pixels = np.full((size, 2 * size, 3), 10 + 4 * n, dtype=np.uint8)
            pixels[:, size:] = 130 + 4 * n
            path = root / "facades" / split / f"{i + 1}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=100, subsampling=0)
            n += 1
