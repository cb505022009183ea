"""Distances between two images in the feature maps of a network: perceptual, content, style."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torchvision
from torch import Tensor
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

from xdomain.errors import UserError
from xdomain.features.base import Extractor, set_channels
from xdomain.metrics.base import PairMetric

BACKBONES = {
    "squeeze": torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    "alex": torchvision.models.AlexNet_Weights.IMAGENET1K_V1,
    "vgg": torchvision.models.VGG16_Weights.IMAGENET1K_V1,
}


class PerceptualDistance(PairMetric):
    """LPIPS with equal weights: Zhang et al. 2018, eq. 1, with w = 1, averaged over the layers.

    Feature vectors are scaled to unit length at every position; their squared distance is averaged over the positions.
    Between 0 and 4. Not a substitute for :class:`LPIPS`, whose weights are fitted to human judgement.

    Args:
        extractor: feature network.
        layers: layers of the network; by default all named layers.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = PerceptualDistance(build_extractor("random-conv"))
        >>> images = torch.rand(2, 3, 16, 16)
        >>> metric.update(images, images)
        >>> metric.name, metric.compute(), metric.n
        ('lpips-uniform@random-conv', tensor(0.), Count(real=2, fake=2))
    """

    def __init__(self, extractor: Extractor, layers: Sequence[str] | None = None) -> None:
        super().__init__(f"lpips-uniform@{extractor.name}", extractor)
        self.layers = tuple(layers or extractor.layers)

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        parts = []
        for x, y in self._pyramids(real, fake, self.layers):
            x, y = (part / part.norm(dim=1, keepdim=True).clamp(min=1e-10) for part in (x, y))
            parts.append((x - y).square().sum(1).flatten(1).mean(1))
        return torch.stack(parts).mean(0)


class ContentDistance(PairMetric):
    """Mean squared difference of the feature maps of one layer.

    The content loss of Gatys et al. 2016, eq. 1, as a mean instead of half the sum, so that it does not grow with the
    image.

    Args:
        extractor: feature network.
        layer: one of the network's layers.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = ContentDistance(build_extractor("random-conv"), "2")
        >>> metric.update(torch.ones(1, 3, 16, 16), torch.zeros(2, 3, 16, 16))
        >>> metric.name, bool(metric.compute() > 0), metric.n
        ('content@random-conv/2', True, Count(real=2, fake=2))
    """

    def __init__(self, extractor: Extractor, layer: str) -> None:
        super().__init__(f"content@{extractor.at(layer)}", extractor)
        self.layer = layer

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        ((x, y),) = self._pyramids(real, fake, [self.layer])
        return (x - y).square().flatten(1).mean(1)


class GramStyleDistance(PairMetric):
    """Mean squared difference of Gram matrices, averaged over the layers.

    The style loss of Gatys et al. 2016, eq. 4 and 5, with Gram matrices divided by C H W: the images may differ
    in size.

    Args:
        extractor: feature network.
        layers: layers of the network; by default all named layers.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = GramStyleDistance(build_extractor("random-conv"), ["1", "2"])
        >>> metric.update(torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 24, 16))
        >>> metric.name, bool(metric.compute() > 0), metric.n
        ('style@random-conv', True, Count(real=1, fake=1))
    """

    def __init__(self, extractor: Extractor, layers: Sequence[str] | None = None) -> None:
        super().__init__(f"style@{extractor.name}", extractor)
        self.layers = tuple(layers or extractor.layers)

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        pairs = zip(*(self.extractor.pyramid(images, self.layers) for images in (real, fake)), strict=True)
        return torch.stack([(gram(x) - gram(y)).square().mean((1, 2)) for x, y in pairs]).mean(0)


def gram(maps: Tensor) -> Tensor:
    """Gram matrices [N, C, C] of feature maps [N, C, ...], divided by the number of entries per image."""
    x = maps.flatten(2)
    return x @ x.mT / (x.shape[1] * x.shape[2])


class LPIPS(PairMetric):
    """LPIPS with the learned weights of Zhang et al. 2018, by torchmetrics, which includes the layer weights.

    Args:
        net: the network, whose ImageNet weights must be in the cache of torch.hub; nothing is downloaded.

    Raises:
        UserError: if they are not.

    Example:
        >>> metric = LPIPS("squeeze")  # doctest: +SKIP
        >>> metric.update(images, images)  # doctest: +SKIP
        >>> metric.name, metric.compute()  # doctest: +SKIP
        ('lpips@squeeze', tensor(0.))
    """

    def __init__(self, net: Literal["squeeze", "alex", "vgg"] = "squeeze") -> None:
        url = BACKBONES[net].url
        path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        if not path.is_file():
            raise UserError(f"the weights for LPIPS are not at {path}: put {url} there, or use lpips-uniform.")
        with torch.random.fork_rng():
            network = LearnedPerceptualImagePatchSimilarity(net).net
        super().__init__(f"lpips@{net}", network.requires_grad_(False))

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        network = self._held[0]
        assert network is not None
        real, fake = (set_channels(images.clamp(-1, 1), 3) for images in (real, fake))
        values: Tensor = network(real.expand_as(fake), fake)
        return values.flatten()
