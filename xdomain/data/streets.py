"""Street scenes with the class of every pixel, from their official files: GTA5 and Cityscapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import UNKNOWN, Sample
from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.decode import file_versions
from xdomain.data.images import read_image
from xdomain.errors import UserError, refuse
from xdomain.paths import data_root

LABEL_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic_light": 19,
    "traffic_sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""Maps the 19 classes of Cityscapes that are evaluated to their numbers in the official files."""
Size = tuple[int, int]
"""Height and width in pixels."""


class Scene(NamedTuple):
    """The files of an image and of its label map, relative to a common folder."""

    image: Path
    label_map: Path


class Scenes(ImageData):
    """Images with label maps that are decoded whenever they are needed: a whole set does not fit into memory.

    Args:
        folder: the common folder.
        scenes: the files.
        size: what images are resized to, and label maps by the nearest pixel; None keeps the size of the files.
    """

    def __init__(self, folder: Path, scenes: Sequence[Scene], size: Size | None) -> None:
        super().__init__(np.empty((len(scenes), 3, 0, 0), np.uint8), files=[scene.image for scene in scenes])
        self.folder, self.scenes, self.size = folder, scenes, size
        self._classes = np.full(256, UNKNOWN, np.uint8)
        self._classes[[*LABEL_IDS.values()]] = range(len(LABEL_IDS))

    @property
    def images(self) -> np.ndarray:
        return self.__getitems__([*range(len(self))]).image.numpy()

    @property
    def label_maps(self) -> np.ndarray:
        label_maps = self.__getitems__([*range(len(self))]).label_map
        assert label_maps is not None
        return label_maps.numpy()

    def keep(self, chosen: np.ndarray) -> "Scenes":
        return Scenes(self.folder, [self.scenes[i] for i in np.arange(len(self))[chosen]], self.size)

    def __getitems__(self, indices: list[int]) -> Sample:
        pairs = [self._read(self.scenes[i]) for i in indices]
        images, label_maps = (torch.stack([pair[i] for pair in pairs]) for i in (0, 1))
        return Sample(images, torch.tensor(indices), label_map=label_maps)

    def _read(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """An image ``uint8`` [3, H, W] and its label map ``uint8`` [H, W]."""
        image = read_image(self.folder / scene.image, 3)
        try:
            with Image.open(self.folder / scene.label_map) as file:
                numbers = np.array(file)
        except OSError as error:
            raise UserError(f"{self.folder / scene.label_map} cannot be read ({error}): unpack it again.") from error
        if numbers.dtype != np.uint8 or numbers.shape != image.shape[1:]:
            raise UserError(
                f"{self.folder / scene.label_map} is no label map of its image: it must hold a number from 0 to 255 "
                f"for each of {image.shape[1]}x{image.shape[2]} pixels."
            )
        label_map = torch.from_numpy(self._classes[numbers])
        if self.size is None or (*image.shape[1:],) == (*self.size,):
            return image, label_map
        resized = F.interpolate(image[None].float(), self.size, mode="bicubic", antialias=True)[0]
        nearest = F.interpolate(label_map[None, None], self.size, mode="nearest-exact")[0, 0]
        return resized.round_().clamp_(0, 255).byte(), nearest


class GTA5ToCityscapes(BaseDataModule):
    """Streets of a game and real ones: ``gta5`` and ``cityscapes``, RGB, with label maps of 19 classes.

    Reads, below the data root:

    - ``gta5/images/*.png`` and ``gta5/labels/*.png`` with the same names (Richter et al., ECCV 2016);
    - ``cityscapes/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png`` and
      ``cityscapes/gtFine/{train,val}/CITY/*_gtFine_labelIds.png`` (Cordts et al., CVPR 2016).

    All other numbers in the files than those of :data:`LABEL_IDS` are 255, unknown. The test of Cityscapes is its
    official ``val``, as in print; the validation of both and the test of GTA5 are the last ``val_size`` images of one
    fixed shuffle of the training images, which leave the training. Validation and test images of Cityscapes keep their
    official size.

    Args:
        root: folder that holds the data sets; see :func:`xdomain.paths.data_root`.
        source_size: height and width of the images of GTA5.
        target_size: height and width of the training images of Cityscapes.
        val_size: number of validation images.
        augment: random transform of the training images that moves no pixels, float [N, 3, H, W] in [-1, 1] to the
            same.
        eval_batch_size: images per step in validation and test, which are large.
    """

    domains = ("gta5", "cityscapes")
    channels = (3, 3)
    pixel_classes = tuple(LABEL_IDS)

    def __init__(
        self,
        root: str | None = None,
        source_size: tuple[int, int] = (720, 1280),
        target_size: tuple[int, int] = (512, 1024),
        val_size: int = 100,
        augment: nn.Module | None = None,
        eval_batch_size: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(eval_batch_size=eval_batch_size, **options)
        if val_size < 1:
            refuse(self, "val_size", val_size, "give a number of images of at least 1.")
        self.root, self.val_size, self.augment = data_root(root), val_size, augment
        self.sizes: dict[str, Size] = {"a": source_size, "b": target_size}
        self.image_size = max(*source_size, *target_size)
        self._found: dict[tuple[str, str], list[Scene]] = {}

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.sizes["a"], self.sizes["b"]

    def augmentation(self, role: str) -> nn.Module | None:
        return self.augment

    def scenes(self, role: str, folder: str) -> list[Scene]:
        """The files of one official folder: of ``gta5``, or ``train`` or ``val`` of Cityscapes."""
        if (role, folder) not in self._found:
            name = self.domains[self.roles.index(role)]
            if role == "a":
                images = sorted((self.root / name / "images").glob("*.png"))
                maps = [image.parents[1] / "labels" / image.name for image in images]
            else:
                images = sorted((self.root / name / "leftImg8bit" / folder).glob("*/*_leftImg8bit.png"))
                ground = self.root / name / "gtFine" / folder
                maps = [
                    ground / image.parent.name / image.name.replace("_leftImg8bit", "_gtFine_labelIds")
                    for image in images
                ]
            if not images:
                raise UserError(
                    f"{self.root / name} holds no images of the official archives of {name}: unpack them there, or let "
                    "root or the environment variable XDOMAIN_DATA name the folder that holds it."
                )
            if (missing := next((file for file in maps if not file.is_file()), None)) is not None:
                raise UserError(f"the label map {missing} is missing: unpack the official archive again.")
            pairs = zip(images, maps, strict=True)
            self._found[role, folder] = [Scene(*(f.relative_to(self.root) for f in pair)) for pair in pairs]
        return self._found[role, folder]

    def data(self, role: str, split: Split) -> ImageData:
        official = role == "b" and split == "test"
        scenes = self.scenes(role, "val" if official else "train")
        if not official:
            if self.val_size >= len(scenes):
                given = f", but {self.domains[self.roles.index(role)]} holds only {len(scenes):,} training images"
                refuse(self, "val_size", self.val_size, f"{given}: give a smaller number.")
            order = np.random.default_rng(0).permutation(len(scenes))
            chosen = order[: -self.val_size] if split == "train" else order[-self.val_size :]
            scenes = [scenes[i] for i in sorted(chosen)]
        return Scenes(self.root, scenes, None if role == "b" and split != "train" else self.sizes[role])

    def contents(self) -> dict[str, Any]:
        files = {
            (role, folder): [self.root / file for scene in self.scenes(role, folder) for file in scene]
            for role, folder in (("a", "train"), ("b", "train"), ("b", "val"))
        }
        return {"files": file_versions(self.root, files), "sizes": self.sizes, "val_size": self.val_size}
