"""Similarity of the layouts of two images."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.features.base import set_channels
from xdomain.metrics.base import PairMetric

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class LayoutCorrelation(PairMetric):
    """Correlation of the layouts of two images, regardless of colours and textures; mean over the pairs.

    Pearson's correlation over all pixels of two maps: the blurred luminance, or the blurred strength of the edges. In
    [-1, 1]; 1 for the same image at any brightness and contrast, near 0 for unrelated images. A negative image has -1
    by luminance and 1 by edges. A flat map, which has no layout, has 0 with every other.

    Args:
        kind: ``luminance`` (ITU-R 601 luma) or ``edges`` (Sobel's magnitude of it).
        blur: standard deviation of the Gaussian, as a share of the shorter side.

    Example:
        >>> metric = LayoutCorrelation("luminance")
        >>> image = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
        >>> metric.update(image, torch.cat([0.5 * image, -image]))
        >>> metric.name, metric.compute().round(decimals=3) + 0, metric.n
        ('layout_luminance', tensor(0.), Count(real=2, fake=2))
    """

    higher_is_better = True

    def __init__(self, kind: Literal["luminance", "edges"], blur: float = 1 / 32) -> None:
        super().__init__(f"layout_{kind}")
        self.kind, self.blur = kind, blur

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        """The correlations."""
        if real.shape[2:] != fake.shape[2:]:
            raise ValueError(
                f"{self.name} compares images of one size, not {tuple(real.shape)} and {tuple(fake.shape)}"
            )
        x, y = (self.maps(images).flatten(1) for images in (real, fake))
        x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
        lengths = x.norm(dim=1) * y.norm(dim=1)
        flat = lengths < 1e-9 * x.shape[1]
        return torch.where(flat, 0.0, (x * y).sum(1) / lengths.masked_fill(flat, 1.0))

    def maps(self, images: Tensor) -> Tensor:
        """The maps that are compared, float64 [N, 1, H, W]."""
        grey = set_channels(images.double().clamp(-1, 1), 1)
        if self.kind == "edges":
            across = grey.new_tensor(SOBEL)[None, None]
            padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
            grey = (F.conv2d(padded, across).square() + F.conv2d(padded, across.mT).square()).sqrt()
        return blurred(grey, self.blur * min(grey.shape[2:]))


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Images [N, 1, H, W] blurred by a Gaussian, truncated at three deviations, with border padding."""
    radius = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.softmax(-offsets.square() / (2 * deviation**2), 0)
    padded = F.pad(images, [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
