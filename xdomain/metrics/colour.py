"""Whose colours a translation has: those of its source, or those of its guide."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ColourCorrelation(Metric):
    """Pearson's correlation of the mean colours of images with those of others, one of them for each image.

    1 if the mean of every channel rises with that of the other image, 0 if both have nothing to do with each other.

    Args:
        channels: image channels.

    Example:
        >>> metric = ColourCorrelation(1)
        >>> images = torch.tensor([0.0, 0.2, 0.4]).view(3, 1, 1, 1)
        >>> metric.update(images, 1 - 2 * images)
        >>> round(metric.compute().item(), 3)
        -1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add_state("sums", default=torch.zeros(5, channels, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, others: Tensor) -> None:
        """Add images, float [N, C, H, W], with others [N, C, h, w]."""
        x, y = (part.double().mean((2, 3)) for part in (images, others))
        self.sums += torch.stack([x, y, x * x, y * y, x * y]).sum(1)
        self.count += len(images)

    def compute(self) -> Tensor:
        """The mean over the channels, in [-1, 1]; NaN if a channel has the same mean in all images or all others."""
        x, y, xx, yy, xy = self.sums / self.count
        variances = torch.stack([xx - x * x, yy - y * y])
        known = torch.where(variances > 1e-9, variances, torch.nan)  # of single precision's rounding
        correlation: Tensor = ((xy - x * y) / known.prod(0).sqrt()).mean().float()
        return correlation
