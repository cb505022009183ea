"""Photographs of buildings and their label maps: CMP Facades in the files of pix2pix, and synthetic ones."""

from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor, nn

from xdomain.data.augment import ResizeCropFlip
from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.decode import Geometry, decoded_images, file_versions
from xdomain.data.drawn import DrawnPairs
from xdomain.data.folders import OnBadFile
from xdomain.data.images import image_files
from xdomain.engines import facades as engine
from xdomain.errors import UserError
from xdomain.paths import data_root

PALETTES = MappingProxyType({"labels": engine.PALETTE})


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
        jitter: crop training images at random from enlarged ones and mirror half of them, by
            :class:`xdomain.data.augment.ResizeCropFlip`.
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
        return ResizeCropFlip() if self.jitter else None

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


class FacadeWorld(DrawnPairs):
    """Facades drawn from seed and index: ``photo`` and ``labels``, RGB, without a download.

    The options are those of :class:`xdomain.data.drawn.DrawnPairs`.
    """

    domains = ("photo", "labels")
    palettes = PALETTES
    engine = engine
    what = "facade"

    def render(self, u: Tensor, role: str) -> Tensor:
        if role == "a":
            return engine.render(u, self.image_size)
        return engine.labels_to_rgb(engine.render_labels(u, self.image_size))
