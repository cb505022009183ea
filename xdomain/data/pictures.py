"""Pictures of an engine with their parameters, and photos of the same things."""

from typing import Any

import torch
from torch import Tensor, nn

from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.data.digits import STREAMS
from xdomain.engines import Engine, Glyphs, Schema
from xdomain.engines import polygons as polygon_engine
from xdomain.engines.glyphs import render_cast
from xdomain.errors import refuse
from xdomain.paths import data_root


class DrawnDomain(BaseDataModule):
    """Base class of one domain whose images are drawn from parameters that are known.

    Drawn once and memory-mapped from the cache folder. The three parts are disjoint streams.

    Args:
        root: folder that holds the data sets, for helpers that need one; see :func:`xdomain.paths.data_root`.
        image_size: height and width in pixels.
        train_size: number of training images.
        val_size: number of validation images.
        test_size: number of test images.
        world_seed: seed of the world; every part has its own random stream.
        augment: random transform of the training images, float [N, C, H, W] in [-1, 1] to the same.

    Attributes:
        engine: what draws, or what has the same parameters.
        stream: number of the domain's random stream, 0 to 3, so that two domains show other things.
    """

    engine: Engine
    stream: int

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 32,
        train_size: int = 20000,
        val_size: int = 500,
        test_size: int = 2000,
        world_seed: int = 0,
        augment: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        settings = {"image_size": image_size, "train_size": train_size, "val_size": val_size, "test_size": test_size}
        for name, value in settings.items():
            if value < 1:
                refuse(self, name, value, "give a number of at least 1.")
        self.root, self.image_size, self.world_seed, self.augment = data_root(root), image_size, world_seed, augment
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        self._loaded: dict[Split, ImageData] = {}

    def render(self, u: Tensor, indices: Tensor, seed: int) -> Tensor:
        """Draw images: parameters u [N, P] -> uint8 [N, C, H, W]; what u does not determine, index and seed do."""
        raise NotImplementedError(f"{type(self).__name__} must implement render()")

    def seed_of(self, split: Split, stream: int) -> int:
        """Seed of one of the random streams of a part."""
        return 4 * (len(STREAMS) * self.world_seed + STREAMS[split]) + stream

    def drawn_from(self, role: str, split: Split, schema: Schema) -> Tensor | None:
        if schema.names != self.engine.schema.names:
            return None
        return self.engine.sample(torch.arange(self.sizes[split]), self.seed_of(split, self.stream))

    def augmentation(self, role: str) -> nn.Module | None:
        return self.augment

    def contents(self) -> dict[str, Any]:
        return {"engine": self._key(), "seed": self.world_seed, "sizes": self.sizes}

    def _key(self) -> str:
        return f"{type(self.engine).__module__}.{type(self.engine).__qualname__} {self.engine.version}"

    def data(self, role: str, split: Split) -> ImageData:
        if split not in self._loaded:
            seed, count = self.seed_of(split, self.stream), self.sizes[split]

            def make(begin: int, end: int) -> Arrays:
                indices = torch.arange(begin, end)
                u = self.engine.sample(indices, seed)
                return {"images": self.render(u, indices, self.seed_of(split, self.stream + 1)).numpy()}

            name = f"{type(self).__name__.lower()}-{self.domains[0]}-{split}"
            arrays = cached_arrays(name, f"{self._key()} {seed} {count} {self.image_size}", count, make)
            labels = None
            if self.engine.label is not None:
                u = self.engine.sample(torch.arange(count), seed)
                labels = u[:, self.engine.schema.index(self.engine.label)].long().numpy()
            self._loaded[split] = ImageData(arrays["images"], labels)
        return self._loaded[split]


class EnginePictures(DrawnDomain):
    """What an engine draws, with the parameters of every picture: the target domain of tied output synthesis.

    The domain has the name of the engine. Labels are the values of the engine's ``label``, if it has one.

    Args:
        engine: the engine, such as ``Polygons``.
        options: see :class:`DrawnDomain`.
    """

    stream = 2

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(**options)
        self.engine, self.domains, self.channels = engine, (engine.name,), (engine.channels,)

    def render(self, u: Tensor, indices: Tensor, seed: int) -> Tensor:
        return self.engine.render(u, self.image_size)


class PolygonPhotos(DrawnDomain):
    """Regular polygons as a camera might see them, RGB: ``photo``; what :class:`xdomain.engines.Polygons` can draw.

    The options are those of :class:`DrawnDomain`.
    """

    domains = ("photo",)
    channels = (3,)
    stream = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.engine = polygon_engine.Polygons()

    def render(self, u: Tensor, indices: Tensor, seed: int) -> Tensor:
        return polygon_engine.render_photo(u, indices, seed, self.image_size)


class CastDigits(DrawnDomain):
    """Drawn digits in coloured light that gives their class away: ``digits``, RGB, classes 0-9.

    The digits are those of :class:`xdomain.engines.Glyphs`, in grey on grey. In all parts the light has, with
    probability ``correlation``, the colour of the class, otherwise one of the ten at random. :meth:`shuffled` shows the
    same digits in light that has nothing to do with the class.

    Args:
        correlation: probability that the light is that of the class.
        options: see :class:`DrawnDomain`.
    """

    domains = ("digits",)
    channels = (3,)
    stream = 0

    def __init__(self, correlation: float = 0.95, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= correlation <= 1:
            refuse(self, "correlation", correlation, "give a probability from 0 to 1.")
        self.engine, self.correlation = Glyphs(), correlation
        self._shuffled: dict[Split, ImageData] = {}

    def render(self, u: Tensor, indices: Tensor, seed: int) -> Tensor:
        return render_cast(u, indices, seed, self.image_size, self.correlation)

    def shuffled(self, split: Split) -> ImageData:
        """The digits of a part in light of any colour."""
        if split not in self._shuffled:
            twin = CastDigits(0.0, image_size=self.image_size, world_seed=self.world_seed)
            twin.sizes = self.sizes
            self._shuffled[split] = twin.data("a", split)
        return self._shuffled[split]

    def _key(self) -> str:
        return f"{super()._key()} in light {self.correlation}"
