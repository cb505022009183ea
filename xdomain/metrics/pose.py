"""Reading known quantities, such as the pose of a head, from images of one person."""

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-3
ROWS = 1000  # images that are fitted to


class KernelReader:
    """Kernel ridge regression from pixels: reads in new images what is known of others that look alike.

    Gaussian kernel on images shrunk to ``side`` pixels, as wide as their median distance. It has no random numbers.

    Args:
        images: float [N, C, H, W] in [-1, 1]; of more than 1,000, evenly spaced ones are fitted to.
        values: what they show, float [N, K].
        side: height and width to which images are shrunk.

    Example:
        >>> shade = torch.linspace(-1, 1, 50)
        >>> images = shade.view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        >>> reader = KernelReader(images, shade[:, None], side=8)
        >>> bool((reader(images[::7])[:, 0] - shade[::7]).abs().max() < 0.02)
        True
    """

    def __init__(self, images: Tensor, values: Tensor, side: int = 32) -> None:
        chosen = torch.linspace(0, len(images) - 1, min(len(images), ROWS)).round().long()
        self.side = side
        self.points = self._shrunk(images[chosen.to(images.device)])
        y = values[chosen.to(values.device)].to(self.points)
        distances = torch.cdist(self.points, self.points)
        self.width = distances[distances > 0].median() if (distances > 0).any() else distances.new_ones(())
        self.mean = y.mean(0)
        kernel = self._kernel(distances) + RIDGE * torch.eye(len(y), dtype=y.dtype, device=y.device)
        self.weights = torch.linalg.solve(kernel, y - self.mean)

    def _shrunk(self, images: Tensor) -> Tensor:
        small: Tensor = F.interpolate(images.float(), (self.side, self.side), mode="area").flatten(1).double()
        return small

    def _kernel(self, distances: Tensor) -> Tensor:
        closeness: Tensor = (-0.5 * (distances / self.width) ** 2).exp()
        return closeness

    def __call__(self, images: Tensor) -> Tensor:
        """What images [N, C, H, W] show, float [N, K]."""
        found: Tensor = self._kernel(torch.cdist(self._shrunk(images), self.points)) @ self.weights + self.mean
        return found.float()


def correlations(found: Tensor, truth: Tensor) -> Tensor:
    """Pearson's correlation of every column of [N, K] with that of the truth: [K] in [-1, 1], NaN if one is constant.

    Example:
        >>> correlations(torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]]), torch.tensor([[2.0, 1], [4, 2], [6, 3]]))
        tensor([1., 0.])
    """
    x, y = (v.double() - v.double().mean(0) for v in (found, truth))
    return ((x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt()).float()
