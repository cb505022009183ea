"""The data contract: what travels from a data set to a method, and the one place that knows the pixel range."""

from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """A batch of images of one domain with what is known about them.

    Attributes:
        image: ``uint8`` in [0, 255] as a data set yields it, ``float32`` in [-1, 1] as a method sees it; [N, C, H, W].
        position: where every image stands in its data set, ``int64`` [N].
        label: class or identity of every image, ``int64`` [N], or None where nothing is known.
        attributes: attributes of every image, ``uint8`` [N, K] of 0 and 1, in the order of the data module's
            ``attribute_names``; None where nothing is known.
    """

    image: Tensor
    position: Tensor
    label: Tensor | None = None
    attributes: Tensor | None = None


Batch = dict[str, Sample]
"""From role (``a``: source or only domain, ``b``: target domain) to the samples of that domain."""


def to_float(images: Tensor) -> Tensor:
    """Map ``uint8`` [0, 255] to ``float32`` [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map float [-1, 1] to ``uint8`` [0, 255]; values outside the range are clamped, not wrapped."""
    return images.float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Give images [N, C, H, W] the wanted number of channels.

    Grey becomes RGB by repetition, RGB becomes grey by the ITU-R 601 luma; equal numbers return the input itself.

    Raises:
        ValueError: for any other pair of channel numbers.
    """
    have = images.shape[1]
    if have == channels:
        return images
    if have == 1 and channels == 3:
        return images.expand(-1, 3, -1, -1)
    if have == 3 and channels == 1:
        weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (images * weights).sum(1, keepdim=True)
    raise ValueError(f"cannot turn {have} channels into {channels}")
