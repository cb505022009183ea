"""Pairs drawn by an engine that knows both domains exactly."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from xdomain.data.augment import ResizeCropFlip
from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.data.digits import STREAMS
from xdomain.errors import UserError
from xdomain.paths import data_root


class DrawnPairs(BaseDataModule):
    """Base class of two RGB domains that an engine draws from seed and index, without a download.

    Drawn once and memory-mapped from the cache folder. Nothing that a training image of the first domain shows is in
    the training images of the second, so there are no pairs. Validation and test show the same things on both sides in
    the same order.

    Args:
        root: folder that holds the data sets, for helpers that need one; see :func:`xdomain.paths.data_root`.
        image_size: height and width in pixels.
        train_size: number of training images of each domain.
        val_size: number of validation pairs.
        test_size: number of test pairs.
        jitter: crop training images at random from enlarged ones and mirror half of them, by
            :class:`xdomain.data.augment.ResizeCropFlip`.
        pairs: training images of the second domain are those of the first, for methods that learn from pairs.
        world_seed: seed of the world; every part has its own random stream.

    Attributes:
        engine: the module of the engine, with ``VERSION`` and ``draw_parameters(indices, seed)``.
        what: what it draws, for the names of files in the cache.
    """

    channels = (3, 3)
    paired = True
    engine: ModuleType
    what: str

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 64,
        train_size: int = 2000,
        val_size: int = 100,
        test_size: int = 400,
        jitter: bool = False,
        pairs: bool = False,
        world_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pairs = pairs
        settings = {"image_size": image_size, "train_size": train_size, "val_size": val_size, "test_size": test_size}
        for name, value in settings.items():
            if value < 1:
                raise UserError(f"{name} is {value}: give a number of at least 1.")
        self.root, self.image_size, self.jitter, self.world_seed = data_root(root), image_size, jitter, world_seed
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        self._loaded: dict[tuple[str, Split], ImageData] = {}

    def render(self, u: Tensor, role: str) -> Tensor:
        """Draw one domain: parameters u [N, P] -> uint8 [N, 3, image_size, image_size]."""
        raise NotImplementedError(f"{type(self).__name__} must implement render()")

    def augmentation(self, role: str) -> nn.Module | None:
        return ResizeCropFlip() if self.jitter else None

    def contents(self) -> dict[str, Any]:
        return {"engine": self.engine.VERSION, "seed": self.world_seed, "sizes": self.sizes, "pairs": self.pairs}

    def parameters(self, role: str, split: Split) -> Tensor:
        """Engine parameters of a part, float32 [N, P]."""
        return self._draw(role, split, 0, self.sizes[split])

    def _first(self, role: str, split: Split) -> int:
        """Number of the first thing of a part: training images of both domains show others, unless paired."""
        return self.sizes[split] if split == "train" and role == "b" and not self.pairs else 0

    def _draw(self, role: str, split: Split, begin: int, end: int) -> Tensor:
        first = self._first(role, split)
        stream = len(STREAMS) * self.world_seed + STREAMS[split]
        parameters: Tensor = self.engine.draw_parameters(torch.arange(first + begin, first + end), stream)
        return parameters

    def data(self, role: str, split: Split) -> ImageData:
        if (role, split) not in self._loaded:

            def make(begin: int, end: int) -> Arrays:
                return {"images": self.render(self._draw(role, split, begin, end), role).numpy()}

            count = self.sizes[split]
            part = f"{role} {split} {self._first(role, split)} {count}"
            key = f"{part} {self.image_size} {self.world_seed} {self.engine.VERSION}"
            name = f"{self.what}-{self.domains[self.roles.index(role)]}-{split}"
            self._loaded[role, split] = ImageData(cached_arrays(name, key, count, make)["images"])
        return self._loaded[role, split]
