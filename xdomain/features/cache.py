"""Features of training images by a frozen network, computed once."""

from collections.abc import Callable

import torch
from torch import Tensor

from xdomain.batch import to_float
from xdomain.data.base import ImageData


class FeatureCache:
    """Features of images without augmentation, computed at first use.

    They are computed in fixed groups of images and in float32, so that they are bitwise the same whenever they are
    computed, also after a resume.

    Args:
        images: all images.
        groups: index of the group of every image, ``int64`` [N].
        features: computes features [n, dim] of images [n, C, H, W] in [-1, 1].
    """

    def __init__(self, images: ImageData, groups: Tensor, features: Callable[[Tensor], Tensor]) -> None:
        self.images, self.groups, self.features = images, groups, features
        self._known = torch.zeros(len(images), dtype=torch.bool)
        self._complete = False
        self._values: Tensor | None = None

    @torch.no_grad()
    def of(self, positions: Tensor) -> Tensor:
        """Features [n, dim] of the images at some positions, ``int64`` [n] on the device of the features."""
        if not self._complete:
            wanted = positions.cpu()
            for group in sorted(set(self.groups[wanted[~self._known[wanted]]].tolist())):
                self._compute((self.groups == group).nonzero().flatten(), positions.device)
            self._complete = bool(self._known.all())
        assert self._values is not None
        return self._values[positions]

    def all(self, device: torch.device) -> Tensor:
        """Features [N, dim] of all images."""
        return self.of(torch.arange(len(self.images), device=device))

    def _compute(self, members: Tensor, device: torch.device) -> None:
        images = to_float(self.images.__getitems__(members.tolist()).image.to(device))
        with torch.autocast(device.type, enabled=False):
            features = self.features(images)
        if self._values is None:
            self._values = features.new_empty(len(self.images), features.shape[1])
        self._values[members.to(device)] = features
        self._known[members] = True
