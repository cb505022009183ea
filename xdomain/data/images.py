"""Image files of every kind as tensors, and back; see :mod:`xdomain.pixels`."""

from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from xdomain.pixels import found_images, read_pixels, write_pixels


def read_image(path: Path, channels: int) -> Tensor:
    """Read an image file, ``uint8`` [channels, H, W]; see :func:`xdomain.pixels.read_pixels`."""
    return torch.from_numpy(read_pixels(path, channels)).permute(2, 0, 1).contiguous()


def write_image(image: Tensor, path: Path) -> None:
    """Write an image ``uint8`` [1, H, W] (grey) or [3, H, W] (RGB); see :func:`xdomain.pixels.write_pixels`."""
    write_pixels(image.permute(1, 2, 0).cpu().numpy(), path)


def image_files(path: Path) -> tuple[Path, list[Path]]:
    """The folder of images and the sorted names of its files; see :func:`xdomain.pixels.found_images`.

    Files that are passed over are counted in a warning.
    """
    folder, names, passed = found_images(path)
    if passed:
        rank_zero_warn(passed)
    return folder, names
