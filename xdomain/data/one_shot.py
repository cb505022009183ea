"""One image of a domain, many of another: for one-shot translation and its rivals."""

import math
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.data.attributes import HorizontalFlip
from xdomain.data.augment import ResizeCropFlip
from xdomain.data.base import BaseDataModule, ImageData, Split, checked_names
from xdomain.data.decode import decoded_images, file_versions
from xdomain.data.folders import Entry, Fit, OnBadFile, geometry_of, listed, load_part, part_shares, shared_out
from xdomain.data.images import image_files
from xdomain.errors import UserError, refuse

Augment = Literal["flip", "jitter"]


class OneShotJitter(nn.Module):
    """The augmentation of OST's drawings: turn by up to 7 degrees, then :class:`xdomain.data.augment.ResizeCropFlip`.

    Benaim, Wolf, "One-Shot Unsupervised Cross Domain Translation", NeurIPS 2018, as in the authors' code. What is
    turned in from outside repeats the border by its mirror image.

    Args:
        degrees: largest angle.
    """

    def __init__(self, degrees: float = 7.0) -> None:
        super().__init__()
        self.degrees = degrees
        self.crop = ResizeCropFlip()

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] in [-1, 1] to the same shape and range."""
        n = len(images)
        angle = (torch.rand(n) * 2 - 1) * (self.degrees * math.pi / 180)
        turn = torch.zeros(n, 2, 3)
        turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
        turn[:, 1, 0] = angle.sin()
        turn[:, 0, 1] = -turn[:, 1, 0]
        grid = F.affine_grid(turn, [n, 1, *images.shape[2:]], align_corners=False).to(images.device)
        turned: Tensor = self.crop(F.grid_sample(images, grid, padding_mode="reflection", align_corners=False))
        return turned


class OneAgainstMany(BaseDataModule):
    """Base class of data modules with one image of the first domain and many of the second.

    Args:
        augment: ``jitter`` turns, crops and mirrors the images of both domains at random (see :class:`OneShotJitter`),
            as the authors of OST do for drawings; ``flip`` mirrors those of the second domain alone, as they do for
            digits.
    """

    def __init__(self, augment: Augment | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.augment = augment

    def augmentation(self, role: str) -> nn.Module | None:
        if self.augment == "jitter":
            return OneShotJitter()
        return HorizontalFlip() if self.augment == "flip" and role == "b" else None


class OneShot(OneAgainstMany):
    """One image x of a domain and all training images of another, from a data module with both.

    The image is one of the TEST part, so that its label or true pair is known and its pair is not among the training
    images. It is trained with and judged: one-shot translation is asked for the image that it was given.

    In validation and test the second domain shows the true pair of x alone if the data knows it, else its whole part.

    Args:
        data: data module with two domains. Its options of batches and order have no effect.
        sample: number of the image in the test part.
        reverse: take the image from the second domain and many of the first.
        augment: as for all modules with one image; without it, images are augmented as ``data`` has it.
    """

    def __init__(self, data: BaseDataModule, sample: int = 0, reverse: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if len(data.domains) != 2:
            reason = f", which has only the domain {data.domains[0]}: give data with two, such as a DomainPair."
            refuse(self, "data", f"a {type(data).__name__}", reason)
        if sample < 0:
            refuse(self, "sample", sample, "count the test images from 0.")
        self.wrapped, self.sample, self.reverse = data, sample, reverse
        order = (1, 0) if reverse else (0, 1)
        self.domains = tuple(data.domains[number] for number in order)
        self.channels = tuple(data.channels[number] for number in order)
        self.image_size, self.root = data.image_size, data.root
        self.paired, self.palettes = data.paired, data.palettes

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self.wrapped.shapes[self.wrapped.domains.index(domain)] for domain in self.domains)

    def data(self, role: str, split: Split) -> ImageData:
        inner = self._inner(role)
        if role == "a" or (self.paired and split != "train"):
            return self._alone(self.wrapped.data(inner, "test"))
        return self.wrapped.data(inner, split)

    def _inner(self, role: str) -> str:
        """The same role in the data with all images."""
        return self.wrapped.role_of(self.domains[self.roles.index(role)])

    def _alone(self, test: ImageData) -> ImageData:
        """The image with the sample's number."""
        if self.sample >= len(test):
            refuse(
                self, "sample", self.sample, f", but there are {len(test):,} test images, from 0 to {len(test) - 1}."
            )
        return test.keep(np.array([self.sample]))

    def augmentation(self, role: str) -> nn.Module | None:
        return super().augmentation(role) if self.augment else self.wrapped.augmentation(self._inner(role))

    def contents(self) -> dict[str, Any]:
        return {"data": self.wrapped.fingerprint(), "sample": self.sample, "reverse": self.reverse}


class ImageAndFolder(OneAgainstMany):
    """Your own image and your own folder of many: the image is translated into what the folder shows.

    The folder is read with all its subfolders. Validation and test images are taken from it by one fixed shuffle of the
    sorted names, and the rest is trained with.

    Args:
        image: image file.
        folder: folder of images.
        domains: names of the two domains; by default the name of the file without its ending and that of the folder.
        image_size: height and width in pixels.
        channels: 1 for grey or 3 for RGB.
        fit: how an image is made square, see :class:`xdomain.data.folders.UnpairedFolders`.
        val_share: share of the folder's images used for validation.
        test_share: share of the folder's images used for the test.
        on_bad_file: refuse an image of the folder that cannot be read, or leave it out with a warning.
    """

    def __init__(
        self,
        image: str,
        folder: str,
        domains: tuple[str, str] | None = None,
        image_size: int = 64,
        channels: Literal[1, 3] = 3,
        fit: Fit = "crop",
        val_share: float = 0.1,
        test_share: float = 0.1,
        on_bad_file: OnBadFile = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.image, self.folder = Path(image).expanduser(), Path(folder).expanduser()
        if self.image.is_dir():
            refuse(self, "image", image, ", which is a folder: give one image file.")
        image_files(self.image)
        names = domains or (self.image.stem, self.folder.resolve().name)
        if names[0] == names[1]:
            raise UserError(f"image and folder are both called {names[0]}: name the two domains by domains: [.., ..].")
        self.domains, self.channels = checked_names(names), (channels, channels)
        self.image_size, self.geometry, self.on_bad_file = image_size, geometry_of(image_size, fit), on_bad_file
        parts: dict[Split, list[Entry]] = {"train": listed(self.folder)}
        self._parts = shared_out(parts, part_shares(val_share, test_share), f"the folder {self.folder}")
        self._loaded: dict[tuple[str, Split], ImageData] = {}

    def files(self) -> dict[tuple[str, str], list[Path]]:
        """The image files by domain and split."""
        found: dict[tuple[str, str], list[Path]] = {(self.domains[0], "train"): [self.image]}
        for split, part in self._parts.items():
            found[self.domains[1], split] = [self.folder / entry.path for entry in part]
        return found

    def contents(self) -> dict[str, Any]:
        return {"files": file_versions(self.folder, self.files()), "geometry": astuple(self.geometry)}

    def data(self, role: str, split: Split) -> ImageData:
        part: Split = "train" if role == "a" else split  # the image is the same in all parts
        if (role, part) not in self._loaded:
            self._loaded[role, part] = self._read(role, part)
        return self._loaded[role, part]

    def _read(self, role: str, split: Split) -> ImageData:
        if role == "b":
            name = f"{self.domains[1]}-{split}"
            geometry = self.geometry
            return load_part(name, self.folder, self._parts[split], self.channels[1], geometry, self.on_bad_file)
        images, _ = decoded_images("one-image", self.image.parent, [self.image.name], self.channels[0], self.geometry)
        return ImageData(images, files=[self.image.name])
