"""Built-in digits: two domains that need no download.

``street`` is drawn by :mod:`xdomain.engines.digits`; ``handwritten`` has the 1,797 scans that come with scikit-learn.
"""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from xdomain.data.base import ImageData, SingleDomain, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.engines import digits as engine

STREAMS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Street(SingleDomain):
    """House-number crops drawn from seed and index: ``street``, RGB, classes 0-9.

    Drawn once and memory-mapped from the cache folder. The three parts are disjoint streams of the engine.

    Args:
        image_size: height and width in pixels.
        train_size: number of training images.
        val_size: number of validation images.
        test_size: number of test images.
        world_seed: seed of the world; every part has its own random stream.
    """

    domains = ("street",)
    channels = (3,)

    def __init__(
        self,
        image_size: int = 32,
        train_size: int = 12000,
        val_size: int = 500,
        test_size: int = 2000,
        world_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.image_size, self.world_seed = image_size, world_seed
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}

    def load(self, split: Split) -> ImageData:
        count, stream = self.sizes[split], len(STREAMS) * self.world_seed + STREAMS[split]

        def draw(begin: int, end: int) -> Arrays:
            images, labels = engine.render_street(torch.arange(begin, end), seed=stream, size=self.image_size)
            return {"images": images.numpy(), "labels": labels.numpy()}

        key = f"{stream} {count} {self.image_size} {engine.VERSION}"  # a new engine version is drawn again
        arrays = cached_arrays(f"street-{split}", key, count, draw)
        return ImageData(arrays["images"], arrays["labels"])

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "engine": engine.VERSION, "seed": self.world_seed, "sizes": self.sizes}


class Handwritten(SingleDomain):
    """The 1,797 scanned digits of scikit-learn, enlarged from 8x8: ``handwritten``, white on black, classes 0-9.

    The scans fill their 8x8 frame; they are enlarged bicubically and get a black border of ``margin`` pixels. One fixed
    shuffle takes 500 images for the test, 100 for validation and 1,197 for training.

    Args:
        image_size: height and width in pixels.
        margin: width of the border in pixels.
    """

    domains = ("handwritten",)
    channels = (1,)

    def __init__(self, image_size: int = 32, margin: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.image_size, self.margin = image_size, margin

    def load(self, split: Split) -> ImageData:
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        part = {"test": order[:500], "val": order[500:600], "train": order[600:]}[split]
        small = torch.from_numpy(images[part]).view(-1, 1, 8, 8).float() * (255 / 16)
        inner = self.image_size - 2 * self.margin
        large = F.interpolate(small, size=(inner, inner), mode="bicubic", align_corners=False)
        large = F.pad(large, (self.margin,) * 4)
        return ImageData(large.round().clamp(0, 255).byte().numpy(), labels[part].astype(np.int64))

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "margin": self.margin}
