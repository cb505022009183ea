"""Networks between the parameters of an engine and its pictures: c and e of tied output synthesis.

Wolf, Taigman, Polyak, "Unsupervised Creation of Parameterized Avatars", ICCV 2017. The widths and layers are ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.classifier import FeatureClassifier
from xdomain.networks.dcgan import halvings

Layout = Sequence[tuple[str, int]]
"""Kind and number of columns of every parameter, see :class:`xdomain.engines.Schema`."""


def activated(raw: Tensor, layout: Layout) -> Tensor:
    """Valid soft parameters of any vectors.

    Args:
        raw: float [N, U].
        layout: of the U columns.

    Returns:
        float [N, U]: choices by softmax, continuous values in [0, 1] by the logistic function, angles as (cos, sin) on
        the unit circle.
    """
    parts = []
    for (kind, _), part in zip(layout, torch.split(raw, [size for _, size in layout], 1), strict=True):
        if kind == "choice":
            parts.append(part.softmax(1))
        else:
            parts.append(part.sigmoid() if kind == "continuous" else F.normalize(part))
    return torch.cat(parts, 1)


class ParameterEncoder(nn.Module):
    """c: reads the parameters of an engine from an image; strided 4x4 convolutions, GroupNorm, LeakyReLU(0.2).

    Args:
        in_channels: channels of the images.
        image_size: height and width in pixels, 4 times a power of two.
        layout: of the parameters.
        width: channels after the first convolution; doubles with every halving of the map.
        hidden: length of the layer between the last map and the parameters.
    """

    def __init__(self, in_channels: int, image_size: int, layout: Layout, width: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.layout = tuple((kind, size) for kind, size in layout)
        size = sum(size for _, size in self.layout)
        down = _down(in_channels, image_size, width, hidden)
        self.layers = nn.Sequential(*down, nn.LeakyReLU(0.2), nn.Linear(hidden, size))

    def raw(self, images: Tensor) -> Tensor:
        """Vectors [N, U] before :func:`activated`, of images [N, in_channels, H, W] in [-1, 1]."""
        vectors: Tensor = self.layers(images)
        return vectors

    def forward(self, images: Tensor) -> Tensor:
        """Soft parameters [N, U]."""
        return activated(self.raw(images), self.layout)


class ParameterDecoder(nn.Module):
    """e: imitates an engine, from soft parameters to its picture; differentiable.

    A hidden layer, one that fills a 4x4 map, then nearest-neighbour upsampling and 3x3 convolutions with GroupNorm and
    ReLU, which leave no checkerboards that c could exploit, and a final tanh.

    Args:
        size: length of the parameters.
        out_channels: channels of the image.
        image_size: height and width in pixels, 4 times a power of two.
        width: channels of the 4x4 map; halves with every doubling of the map.
        hidden: length of the hidden layer.
    """

    def __init__(self, size: int, out_channels: int, image_size: int, width: int = 256, hidden: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, 16 * width)]
        layers.append(nn.Unflatten(1, (width, 4, 4)))
        previous = width
        for level in range(halvings(image_size)):
            out = width >> (level + 1)
            layers += [nn.GroupNorm(_groups(previous), previous), nn.ReLU(), nn.Upsample(scale_factor=2)]
            layers.append(nn.Conv2d(previous, out, 3, padding=1))
            previous = out
        layers += [nn.GroupNorm(_groups(previous), previous), nn.ReLU()]
        layers += [nn.Conv2d(previous, out_channels, 3, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, parameters: Tensor) -> Tensor:
        """Images [N, out_channels, image_size, image_size] in [-1, 1] of soft parameters [N, size]."""
        images: Tensor = self.layers(parameters)
        return images


class ParameterClassifier(FeatureClassifier):
    """Reads parameters from photos with the layers of :class:`ParameterEncoder`; its features are f.

    Args:
        in_channels: channels of the images.
        classes: number of outputs, the size of the engine's schema.
        image_size: height and width in pixels, 4 times a power of two.
        width: channels after the first convolution; doubles with every halving of the map.
        dim: length of the features, which are taken before the last LeakyReLU.
    """

    def __init__(
        self, in_channels: int = 3, classes: int = 10, image_size: int = 32, width: int = 32, dim: int = 128
    ) -> None:
        head = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(dim, classes))
        body = nn.Sequential(*_down(in_channels, image_size, width, dim))
        super().__init__(body, head, in_channels, classes, dim)


def _down(in_channels: int, image_size: int, width: int, dim: int) -> list[nn.Module]:
    """Layers from an image to a vector of length dim."""
    layers: list[nn.Module] = []
    previous = in_channels
    for level in range(halvings(image_size)):
        out = width << level
        layers += [nn.Conv2d(previous, out, 4, 2, 1), nn.GroupNorm(_groups(out), out), nn.LeakyReLU(0.2)]
        previous = out
    return [*layers, nn.Conv2d(previous, dim, 4), nn.Flatten()]


def _groups(channels: int) -> int:
    """Groups of a GroupNorm: 8, or fewer where they would not divide the channels."""
    return next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
