"""Data modules for methods that learn from a single image or a pair of images."""

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.nn import functional as F

from xdomain.data.base import BaseDataModule, ImageData, Split, checked_names
from xdomain.data.images import read_image
from xdomain.data.sampler import EpochBatchSampler, ResumableLoader
from xdomain.errors import UserError, did_you_mean, refuse
from xdomain.paths import data_root

BUNDLED, DRAWN = "scikit-image:", "engine:"
PHOTOGRAPHS = {
    name: f"{name}.{'jpg' if name in ('hubble_deep_field', 'retina', 'rocket') else 'png'}"
    for name in (
        *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
        *("moon", "motorcycle_left", "motorcycle_right", "retina", "rocket"),
    )
}
"""Photographs in the package scikit-image that need no download, all free of copyright; brick, camera, coins,
grass, gravel and moon are grey."""
SMALLEST, LARGEST = 12, 20_000  # sides in pixels; patch discriminators see 11 pixels


def read_picture(path: str, max_size: int, channels: int = 3) -> Tensor:
    """Read an image to learn from.

    Args:
        path: an image file (see :func:`xdomain.data.images.read_image`), or ``scikit-image:<name>`` for one of
            :data:`PHOTOGRAPHS`. A relative path is also looked for in the data root.
        max_size: the longer side is shrunk to this many pixels if it is longer.
        channels: 3 for RGB, 1 for grey.

    Returns:
        ``uint8`` [channels, H, W].

    Raises:
        UserError: for a file that cannot be read, or an image that is too small, too large or of a single colour.
    """
    if not path.startswith(BUNDLED):
        return worth_learning(read_image(find_sample(path), channels)[None], path, max_size)[0]
    name = path.removeprefix(BUNDLED)
    if name not in PHOTOGRAPHS:
        hint = did_you_mean(name, PHOTOGRAPHS, f": choose from {' '.join(PHOTOGRAPHS)}.")
        raise UserError(f"{path} is none of the photographs of scikit-image{hint}")
    file = Path(str(files("skimage"))) / "data" / PHOTOGRAPHS[name]
    return worth_learning(read_image(file, channels)[None], path, max_size)[0]


def find_sample(path: str) -> Path:
    """A file or folder, in the current folder or else in the data root."""
    given = Path(path).expanduser()
    below = data_root() / given
    return below if not given.exists() and below.exists() else given


def shrink(images: Tensor, max_size: int) -> Tensor:
    """Shrink images so that the longer side has ``max_size`` pixels, antialiased; smaller ones are not changed.

    The shorter side is rounded up, as in SinGAN.

    Args:
        images: ``uint8`` [N, C, H, W].
        max_size: largest height or width in pixels.
    """
    height, width = images.shape[-2:]
    longer = max(height, width)
    if longer <= max_size:
        return images
    size = (-(-height * max_size // longer), -(-width * max_size // longer))
    values = F.interpolate(images.float(), size=size, mode="bicubic", align_corners=False, antialias=True)
    return values.round_().clamp_(0, 255).byte()


def worth_learning(images: Tensor, path: str, max_size: int) -> Tensor:
    """Shrink images ``uint8`` [N, C, H, W] and check that a pyramid of patch networks can learn from them.

    Raises:
        UserError: for images that are too large or too small, or of a single colour.
    """
    if max_size < 1:
        refuse(None, "max_size", max_size, "give a number of pixels.")
    height, width = images.shape[-2:]
    if max(height, width) > LARGEST:
        raise UserError(f"{path} has {height}x{width} pixels: shrink it to sides of at most {LARGEST:,}.")
    small = shrink(images, max_size)
    if min(small.shape[-2:]) < SMALLEST:
        raise UserError(
            f"{path} with {height}x{width} pixels becomes {small.shape[-2]}x{small.shape[-1]} at max_size {max_size}: "
            f"both sides must keep at least {SMALLEST}."
        )
    if (images == images[:1, :, :1, :1]).all():
        raise UserError(f"{path} is of one colour: give one that shows something.")
    return small


def pair_names(a: str, b: str, names: tuple[str, str] | None) -> tuple[str, str]:
    """Names of two domains: the given ones, or the file names without folder and extension."""
    first, second = names or (Path(path.removeprefix(BUNDLED).removeprefix(DRAWN)).stem for path in (a, b))
    if first == second:
        raise UserError(f"both sides of the pair are called {first}: set names to two names.")
    checked_names((first, second))
    return first, second


class SingleSample(BaseDataModule):
    """Base class of data modules with one sample per domain, used for training, validation and test.

    Args:
        steps_per_epoch: training batches in an epoch.
        batch_size: number of copies of the sample in a training batch, per domain and process.

    Attributes:
        samples: maps a role to its sample, ``uint8`` without a batch dimension.
    """

    samples: dict[str, Tensor]

    def __init__(self, steps_per_epoch: int = 100, batch_size: int = 1, **options: Any) -> None:
        super().__init__(batch_size=batch_size, **options)
        if steps_per_epoch < 1:
            refuse(self, "steps_per_epoch", steps_per_epoch, "give at least 1.")
        self.steps_per_epoch = steps_per_epoch

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sample.shape[1:]) for sample in self.samples.values())

    def data(self, role: str, split: Split) -> ImageData:
        return ImageData(self.samples[role][None].numpy())

    def contents(self) -> dict[str, Any]:
        return {role: hashlib.sha256(sample.numpy().tobytes()).hexdigest() for role, sample in self.samples.items()}

    def train_dataloader(self) -> CombinedLoader:
        """Batches of copies of the sample."""
        _, world_size = self._shard()
        length = self.steps_per_epoch * self.batch_size * world_size
        loaders = {}
        for role in self.roles:
            sampler = EpochBatchSampler(1, length, self.batch_size, self.seed, world_size=world_size)
            loaders[role] = ResumableLoader(self.data(role, "train"), sampler, self.num_workers)
        return CombinedLoader(loaders, mode="min_size")


class SingleImage(SingleSample):
    """One image: ``image``, RGB or grey, with its own aspect ratio.

    Args:
        path: an image file, or ``scikit-image:<name>`` for a photograph that comes with the installation: one of
            :data:`PHOTOGRAPHS`, e.g. ``scikit-image:coffee``.
        max_size: largest height or width in pixels; a larger image is shrunk, a smaller one keeps its size.
        channels: 3 for RGB, 1 for grey.
    """

    domains = ("image",)

    def __init__(self, path: str, max_size: int = 250, channels: int = 3, **options: Any) -> None:
        super().__init__(**options)
        if channels not in (1, 3):
            refuse(self, "channels", channels, "give 3 for RGB or 1 for grey.")
        self.channels = (channels,)
        self.samples = {"a": read_picture(path, max_size, channels)}
        self.image_size = max(self.shapes[0])

    def image(self) -> Tensor:
        """The image, ``uint8`` [channels, H, W]."""
        return self.samples["a"]


class ImagePair(SingleSample):
    """Two images, RGB, each with its own aspect ratio: role ``a`` (source) and role ``b`` (target).

    Args:
        a: source: an image file, or ``scikit-image:<name>`` for one of :data:`PHOTOGRAPHS`.
        b: target: the same.
        names: names of the two domains; by default the file names without folder and extension.
        max_size: largest height or width in pixels; a larger image is shrunk, a smaller one keeps its size.
    """

    channels = (3, 3)

    def __init__(
        self, a: str, b: str, names: tuple[str, str] | None = None, max_size: int = 250, **options: Any
    ) -> None:
        super().__init__(**options)
        self.domains = pair_names(a, b, names)
        self.samples = {"a": read_picture(a, max_size), "b": read_picture(b, max_size)}
        self.image_size = max(max(shape) for shape in self.shapes)

    def image(self, role: str) -> Tensor:
        """The image of a role, ``uint8`` [3, H, W]."""
        return self.samples[role]
