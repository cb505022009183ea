"""Fixed random convolutions: features that need no data."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.features.base import Extractor, between, check_layers


def _orthogonal(out: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """A matrix [out, fan_in] with rows of unit length, orthogonal as far as fan_in allows.

    Uniform numbers in double precision are bitwise the same on every machine; their QR decomposition, rounded to
    float32, is the same except for the last bit.
    """
    drawn = torch.rand(max(out, fan_in), min(out, fan_in), generator=generator, dtype=torch.float64) - 0.5
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal().sign()  # LAPACK leaves the signs to the implementation
    return F.normalize(q if out >= fan_in else q.T, dim=1).float()


class RandomConv(Extractor):
    """Convolutions 3x3 with fixed random weights: features that need no data and are the same on every machine.

    Four layers ``1`` to ``4``, each a convolution (orthogonal rows, scaled to keep the second moment) with
    LeakyReLU(0.2), average pooling by 2 between them, no normalisation. Three quarters of the first layer's filters sum
    to zero and are 4 times as strong: neighbouring pixels are similar, so that plain filters respond to little but
    brightness (on digits, KID with them did not detect noise of deviation 0.1). The feature vector concatenates the
    spatial means of all layers. Values are comparable with each other, never with those of another network.

    Args:
        dims: 2 for images, 3 for videos.

    Example:
        >>> network = RandomConv()
        >>> images = torch.zeros(2, 1, 32, 32)
        >>> network.name, network.features(images).shape, network.maps(images, "3").shape
        ('random-conv', torch.Size([2, 480]), torch.Size([2, 128, 8, 8]))
    """

    slope = 0.2
    contrast = 4.0

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.dims = dims
        self.name = "random-conv" if dims == 2 else "random-conv3d"
        widths = (32, 64, 128, 256) if dims == 2 else (16, 32, 64, 128)
        self.layers = tuple(str(i + 1) for i in range(len(widths)))
        self.dim = sum(widths)
        gain = math.sqrt(2 / (1 + self.slope**2))
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList()
        previous = self.channels
        for width in widths:
            weight = _orthogonal(width, previous * 3**dims, generator).view(width, previous, -1)
            if not self.weights:
                edges = weight[width // 4 :]
                edges = edges - edges.mean(2, keepdim=True)
                weight[width // 4 :] = self.contrast * edges / edges.norm(dim=(1, 2), keepdim=True)
            self.weights.append(nn.Parameter(gain * weight.view(width, previous, *[3] * dims)))
            previous = width
        self.freeze()

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        check_layers(self.name, layers, self.layers)
        found: dict[str, Tensor] = {}
        x = images
        for i, name in enumerate(self.layers):
            x = found[name] = self._layer(i, x)
            if all(layer in found for layer in layers):
                break
        return [found[layer] for layer in layers]

    def _layer(self, i: int, x: Tensor) -> Tensor:
        """Maps of a layer from those of the layer before, or of the first one from images."""
        convolve, pool = (F.conv2d, F.avg_pool2d) if self.dims == 2 else (F.conv3d, F.avg_pool3d)
        if i > 0:
            x = pool(x, 2, ceil_mode=True)  # ceil, so that no image is too small
        return F.leaky_relu(convolve(x, self.weights[i], padding=1), self.slope)

    def onward(self, maps: Tensor, start: str, end: str) -> Tensor:
        for i in between(self.name, self.layers, start, end):
            maps = self._layer(i, maps)
        return maps

    def vectors(self, images: Tensor) -> Tensor:
        return torch.cat([x.flatten(2).mean(2) for x in self.activations(images, self.layers)], dim=1)
