"""Photographs of buildings and their label maps: CMP Facades in the files of pix2pix, and synthetic ones."""

from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.data.decode import Geometry, decoded_images, file_versions
from xdomain.data.digits import STREAMS
from xdomain.data.folders import OnBadFile
from xdomain.data.images import image_files
from xdomain.engines import facades as engine
from xdomain.errors import UserError
from xdomain.paths import data_root

PALETTES = MappingProxyType({"labels": engine.PALETTE})


class FacadeJitter(nn.Module):
    """The augmentation of pix2pix: enlarge by 286 / 256, crop at a random position, mirror at random.

    Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, section 6.2.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] in [-1, 1] to the same shape and range."""
        n, channels, size, _ = images.shape
        large = round(size * 286 / 256)
        enlarged = F.interpolate(images, (large, large), mode="bicubic", align_corners=False).clamp(-1, 1)
        top, left = (torch.randint(large - size + 1, (n, 1)) + torch.arange(size) for _ in range(2))
        mirrored = torch.rand(n, 1) < 0.5
        left = torch.where(mirrored, left.flip(1), left)
        image, channel = torch.arange(n).view(n, 1, 1, 1), torch.arange(channels).view(1, channels, 1, 1)
        index = (image, channel, top.view(n, 1, size, 1), left.view(n, 1, 1, size))
        return enlarged[tuple(part.to(images.device) for part in index)]


class Facades(BaseDataModule):
    """CMP Facades in the files of pix2pix: ``photo`` and ``labels``, RGB, for unpaired training.

    Reads ``facades/{train,val,test}/*.jpg``, each with the photo on the left and its label map on the right: 400, 100
    and 106 files in the archive ``facades.tar.gz`` of the authors of pix2pix. Without ``test``, one fixed half of
    ``val`` is for validation and the other for the test.

    In training the two sides are shuffled independently. In validation and test both have the same order: images at the
    same position are a pair.

    Args:
        root: folder that holds the data sets; see :func:`xdomain.paths.data_root`.
        image_size: height and width in pixels; the files have 256.
        jitter: crop training images at random from enlarged ones and mirror half of them; see :class:`FacadeJitter`.
        on_bad_file: stop at a file that cannot be read or is not twice as wide as high, or leave it out with a warning.
        limit: use only this many training files.
        pairs: training batches hold pairs as well, for methods that learn from them.
    """

    domains = ("photo", "labels")
    channels = (3, 3)
    subfolder = "facades"
    paired = True
    palettes = PALETTES
    aspect = 2.0

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 256,
        jitter: bool = True,
        on_bad_file: OnBadFile = "raise",
        limit: int | None = None,
        pairs: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pairs = pairs
        if image_size < 1:
            raise UserError(f"image_size is {image_size}: give a number of pixels of at least 1.")
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: give a number of training images of at least 1, or null for all.")
        self.root, self.image_size = data_root(root), image_size
        self.jitter, self.on_bad_file, self.limit = jitter, on_bad_file, limit
        self._loaded: dict[tuple[str, Split], ImageData] = {}

    @cached_property
    def _names(self) -> dict[Split, list[Path]]:
        """Files of every part, relative to the folder of the set."""
        folder = self.root / self.subfolder
        names: dict[Split, list[Path]] = {}
        for split in ("train", "val", "test"):
            if (folder / split).is_dir():
                names[split] = [Path(split) / name for name in image_files(folder / split)[1]]
            elif split != "test":
                raise UserError(
                    f"the folder {folder / split} is missing: unpack facades.tar.gz of the authors of pix2pix there, "
                    "or let root or the environment variable XDOMAIN_DATA name the folder that holds facades."
                )
        if "test" not in names:
            whole = names["val"]
            if len(whole) < 2:
                raise UserError(
                    f"{folder / 'val'} holds one file, which cannot both validate and test: add {folder / 'test'}."
                )
            order = np.random.default_rng(0).permutation(len(whole))
            halves = np.array_split(order, 2)
            names["val"], names["test"] = ([whole[i] for i in sorted(half)] for half in halves)
        names["train"] = names["train"][: self.limit]
        return names

    def files(self) -> dict[tuple[str, str], list[Path]]:
        """The image files by split; each file holds both domains."""
        both = "+".join(self.domains)
        return {
            (both, split): [self.root / self.subfolder / name for name in names] for split, names in self._names.items()
        }

    def contents(self) -> dict[str, Any]:
        return {"files": file_versions(self.root / "facades", self.files())}

    def augmentation(self, role: str) -> nn.Module | None:
        return FacadeJitter() if self.jitter else None

    def data(self, role: str, split: Split) -> ImageData:
        if (role, split) not in self._loaded:
            half = {"a": (0.0, 0.0, 0.5, 1.0), "b": (0.5, 0.0, 1.0, 1.0)}[role]
            geometry = Geometry(self.image_size, half, "bicubic", self.aspect)
            names, folder = self._names[split], self.root / self.subfolder
            name = f"facades-{self.domains[self.roles.index(role)]}-{split}"
            images, good = decoded_images(name, folder, names, 3, geometry, self.on_bad_file)
            if not good.any():
                raise UserError(f"none of the {len(names):,} files in {folder / split} can be used: replace them.")
            data = ImageData(images, files=names)
            self._loaded[role, split] = data if good.all() else data.keep(np.flatnonzero(good))
        return self._loaded[role, split]


class FacadeWorld(BaseDataModule):
    """Facades drawn from seed and index: ``photo`` and ``labels``, RGB, without a download.

    Drawn once and memory-mapped from the cache folder. No building of the training photos is in the training label
    maps, so there are no pairs. Validation and test show the same buildings on both sides in the same order.

    Args:
        root: folder that holds the data sets, for helpers that need one; see :func:`xdomain.paths.data_root`.
        image_size: height and width in pixels.
        train_size: number of training images of each domain.
        val_size: number of validation pairs.
        test_size: number of test pairs.
        jitter: crop training images at random from enlarged ones and mirror half of them; see :class:`FacadeJitter`.
        pairs: training label maps are those of the training photos, for methods that learn from pairs.
        world_seed: seed of the world; every part has its own random stream.
    """

    domains = ("photo", "labels")
    channels = (3, 3)
    paired = True
    palettes = PALETTES

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

    def augmentation(self, role: str) -> nn.Module | None:
        return FacadeJitter() if self.jitter else None

    def contents(self) -> dict[str, Any]:
        return {"engine": engine.VERSION, "seed": self.world_seed, "sizes": self.sizes, "pairs": self.pairs}

    def parameters(self, role: str, split: Split) -> Tensor:
        """Engine parameters of a part, float32 [N, P]."""
        return self._draw(role, split, 0, self.sizes[split])

    def _first(self, role: str, split: Split) -> int:
        """Number of a part's first front: training label maps show other fronts than training photos, unless paired."""
        return self.sizes[split] if split == "train" and role == "b" and not self.pairs else 0

    def _draw(self, role: str, split: Split, begin: int, end: int) -> Tensor:
        first = self._first(role, split)
        stream = len(STREAMS) * self.world_seed + STREAMS[split]
        return engine.draw_parameters(torch.arange(first + begin, first + end), stream)

    def data(self, role: str, split: Split) -> ImageData:
        if (role, split) not in self._loaded:

            def make(begin: int, end: int) -> Arrays:
                u = self._draw(role, split, begin, end)
                if role == "a":
                    return {"images": engine.render(u, self.image_size).numpy()}
                return {"images": engine.labels_to_rgb(engine.render_labels(u, self.image_size)).numpy()}

            count = self.sizes[split]
            part = f"{role} {split} {self._first(role, split)} {count}"
            key = f"{part} {self.image_size} {self.world_seed} {engine.VERSION}"
            name = f"facade-{self.domains[self.roles.index(role)]}-{split}"
            self._loaded[role, split] = ImageData(cached_arrays(name, key, count, make)["images"])
        return self._loaded[role, split]
