"""Frost: an ice pattern over the image, from generated textures or from the official photographs."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from xdomain.data.cache import cached_arrays
from xdomain.data.corruptions.pixels import Bytes
from xdomain.data.corruptions.table import Parameters
from xdomain.data.images import read_image
from xdomain.errors import UserError

HEIGHT, WIDTH = 600, 900
VERSION = 1
MEANS = ((78, 149, 166), (201, 205, 215), (138, 153, 165), (112, 123, 135))
"""Mean RGB of the photographs."""
QUANTILES = ((105, 161), (171, 239), (106, 205), (62, 191))
"""Their grey values at 5 and at 95 %."""
DRAWN_FROM = (0, 1, 1, 2, 3)
"""The scripts draw from five files, of which the second and the third hold the same picture."""
NAMES = ("frost1", "frost2", "frost3", "frost4", "frost5")
"""The files that they draw from; a sixth is never used."""
CRYSTALS = ((400, 7.0), (800, 4.0), (1500, 3.0))
"""Number of crystals, and width of the ridges between them in pixels, of each scale."""
SHARE = 0.45  # of the crystals, in deviations of the noise
NOISE_SLOPE = 0.85  # of the amplitude over frequency


class Frost:
    """Pictures of frost to cut from.

    Args:
        pictures: ``uint8`` [h, w, 3], each drawn with the same chance.
        name: ``frost`` for the official photographs, ``frost*`` for others.
    """

    def __init__(self, pictures: Sequence[Bytes], name: str) -> None:
        self.pictures, self.name = tuple(pictures), name
        self._scaled: dict[tuple[int, float], Bytes] = {}

    def __call__(self, image: Bytes, rng: np.random.Generator, values: Parameters) -> Bytes:
        """Mix an image with a piece of a picture.

        Args:
            image: ``uint8`` [H, W, 3].
            rng: draws the picture, then the row and the column of the piece.
            values: weight of the image, weight of the frost, and zoom of the pictures.
        """
        kept, added, zoom = values
        height, width = image.shape[:2]
        picture = self._scale(int(rng.integers(len(self.pictures))), zoom, height, width)
        top = rng.integers(max(1, picture.shape[0] - height))
        left = rng.integers(max(1, picture.shape[1] - width))
        piece = picture[top : top + height, left : left + width]
        return np.clip(kept * image.astype(np.float64) + added * piece, 0, 255).astype(np.uint8)

    def _scale(self, number: int, zoom: float, height: int, width: int) -> Bytes:
        """A zoomed picture, zoomed further where an image is larger."""
        picture = self.pictures[number]
        zoom = max(zoom, height / picture.shape[0], width / picture.shape[1])
        if (number, zoom) not in self._scaled:
            self._scaled[number, zoom] = _zoomed(picture, zoom)
        return self._scaled[number, zoom]


def _zoomed(picture: Bytes, zoom: float) -> Bytes:
    """Linear interpolation between the pixels; where it shrinks, those in between are left out, like in the scripts."""
    if zoom == 1:
        return np.array(picture)
    places = []
    for side in picture.shape[:2]:
        steps = (np.arange(math.ceil(round(side * zoom, 6))) + 0.5) / zoom - 0.5
        places.append(np.clip(steps, 0, side - 1))
    rows, columns = np.meshgrid(*places, indexing="ij")
    channels = np.moveaxis(picture, 2, 0).astype(np.float64)
    zoomed = np.stack([ndimage.map_coordinates(c, (rows, columns), order=1) for c in channels], 2)
    result: np.ndarray = np.rint(zoomed).astype(np.uint8)
    return result


@cache
def own_frost() -> Frost:
    """Frost by generated textures, which are drawn once and kept in the cache folder."""
    drawn = cached_arrays("frost", f"frost textures {VERSION}", len(MEANS), _textures, piece=1)["textures"]
    return Frost([drawn[number] for number in DRAWN_FROM], "frost*")


def official_frost(folder: Path) -> Frost:
    """Frost by the photographs of ImageNet-C.

    Args:
        folder: holds ``frost1.png`` to ``frost5.jpg``, with any ending of an image.

    Raises:
        UserError: if one is missing or cannot be read.
    """
    pictures = []
    for name in NAMES:
        found = sorted(path for path in folder.glob(f"{name}.*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        if not found:
            raise UserError(f"the folder of frost {folder} holds no {name}.png or {name}.jpg: give that of ImageNet-C.")
        pictures.append(read_image(found[0], 3).permute(1, 2, 0).numpy())
    return Frost(pictures, "frost")


def _textures(begin: int, end: int) -> dict[str, np.ndarray]:
    return {"textures": np.stack([texture(number) for number in range(begin, end)])}


def texture(number: int) -> Bytes:
    """One of the four textures: noise of all scales, and ridges between crystals of three sizes.

    Returns:
        ``uint8`` [600, 900, 3].
    """
    rng = np.random.Generator(np.random.Philox(key=[number, VERSION]))
    field = _noise(rng)
    for count, ridge in CRYSTALS:
        ridges = _ridges(rng, count, ridge)
        field += SHARE * (ridges - ridges.mean()) / ridges.std()
    low, high = np.quantile(field, (0.05, 0.95))
    dark, bright = QUANTILES[number]
    grey = dark + (field - low) * ((bright - dark) / (high - low))
    tint = np.array(MEANS[number]) / grey.mean()
    result: np.ndarray = np.clip(np.rint(grey[:, :, None] * tint), 0, 255).astype(np.uint8)
    return result


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise of deviation 1 whose amplitude falls with the frequency to the power of ``NOISE_SLOPE``."""
    spectrum = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH)))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency**NOISE_SLOPE, (HEIGHT, WIDTH))
    result: np.ndarray = noise / noise.std()
    return result


def _ridges(rng: np.random.Generator, count: int, ridge: float) -> np.ndarray:
    """Borders of Voronoi cells that are stretched in a random direction, from 0 inside to 1 on the border."""
    turn, stretch = rng.uniform(0, math.pi), rng.uniform(1.5, 3)
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) * [[1 / stretch], [1]]
    cell = math.sqrt(HEIGHT * WIDTH / count)
    corners = np.mgrid[-cell : HEIGHT + cell : cell, -cell : WIDTH + cell : cell].reshape(2, -1).T
    seeds = (corners + rng.uniform(0, cell, corners.shape)) @ axes.T
    half = np.mgrid[:HEIGHT:2, :WIDTH:2].reshape(2, -1).T @ axes.T
    distances, _ = cKDTree(seeds).query(half, k=2)
    border = (distances[:, 1] - distances[:, 0]).reshape(HEIGHT // 2, WIDTH // 2)
    border = np.array(Image.fromarray(border.astype(np.float32)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    return np.clip(1 - border / ridge, 0, 1).astype(np.float64)
