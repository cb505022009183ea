"""The data contract: batches from data sets to methods. The one place that knows the pixel range."""

from typing import NamedTuple

import torch
from torch import Tensor

UNKNOWN = 255
"""The class of a pixel whose class is unknown."""


class Sample(NamedTuple):
    """A batch of images of one domain with their labels and attributes.

    Attributes:
        image: [N, C, H, W]; ``uint8`` in [0, 255] from a data set, ``float32`` in [-1, 1] in a method.
        position: index of every image in its data set, ``int64`` [N].
        label: class or identity of every image, ``int64`` [N], or None if unknown.
        attributes: attributes of every image, ``uint8`` [N, K] of 0 and 1, in the order of the data module's
            ``attribute_names``; None if unknown.
        label_map: class of every pixel, ``uint8`` [N, H, W], :data:`UNKNOWN` where it is unknown; None without any.
    """

    image: Tensor
    position: Tensor
    label: Tensor | None = None
    attributes: Tensor | None = None
    label_map: Tensor | None = None


Batch = dict[str, Sample]
"""Maps a role (``a``: source or only domain, ``b``: target domain) to the :class:`Sample`, a batch, of that domain."""


def to_float(images: Tensor) -> Tensor:
    """Map ``uint8`` [0, 255] to ``float32`` [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map float [-1, 1] to ``uint8`` [0, 255]; values outside the range are clamped, not wrapped."""
    return images.float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Convert images [N, C, H, W] to the given number of channels.

    Grey becomes RGB by repetition, RGB becomes grey by the ITU-R 601 luma; the input itself is returned if the number
    is the same.

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
