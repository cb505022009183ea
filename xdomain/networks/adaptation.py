"""Classifiers of digits, and what adapts them to another domain: gradient reversal, classifiers of domains."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from xdomain.networks.classifier import FeatureClassifier


class _Reversal(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """The gradient reversal layer R of Ganin and Lempitsky 2015: the identity, with -``strength`` times its gradient.

    Args:
        x: any tensor.
        strength: factor of the gradient on the way back, lambda in the paper; 0 lets none through.

    Returns:
        x itself, bit for bit.
    """
    reversed_: Tensor = _Reversal.apply(x, strength)
    return reversed_


class Standardize(nn.Module):
    """Shifts and scales every image to mean 0 and standard deviation 1 over its channels and pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to the same shape; an image of one colour becomes 0."""
        centred = images - images.mean((1, 2, 3), keepdim=True)
        return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-3)


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class MNISTNet(FeatureClassifier):
    """The MNIST architecture of Ganin et al. 2016: two 5x5 convolutions with ReLU and pooling, three linear layers.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        image_size: height and width in pixels, a multiple of 4.
        widths: channels after the two convolutions.
        hidden: lengths of the hidden layers of the classifier.
        batch_norm: normalise after every convolution, which the paper does not; short trainings need it.
        standardize: whether every image is standardised first, see :class:`Standardize`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 10,
        image_size: int = 32,
        widths: Sequence[int] = (32, 48),
        hidden: Sequence[int] = (100, 100),
        batch_norm: bool = False,
        standardize: bool = False,
    ) -> None:
        layers: list[nn.Module] = [Standardize()] if standardize else []
        previous = in_channels
        for width in widths:
            layers.append(nn.Conv2d(previous, width, 5, padding=2, bias=not batch_norm))
            layers += [nn.BatchNorm2d(width)] if batch_norm else []
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            previous = width
        dim = previous * (image_size // 4) ** 2
        super().__init__(
            nn.Sequential(*layers, nn.Flatten()), _layers([dim, *hidden, classes]), in_channels, classes, dim
        )


class SVHNNet(FeatureClassifier):
    """The SVHN architecture of Ganin et al. 2016: three 5x5 convolutions, the first two pooled, three linear layers.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        image_size: height and width in pixels, a multiple of 4.
        widths: channels after the three convolutions.
        hidden: lengths of the hidden layers of the classifier.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 10,
        image_size: int = 32,
        widths: Sequence[int] = (64, 64, 128),
        hidden: Sequence[int] = (3072, 2048),
    ) -> None:
        layers: list[nn.Module] = []
        previous = in_channels
        for number, width in enumerate(widths):
            layers += [nn.Conv2d(previous, width, 5, padding=2), nn.ReLU()]
            layers += [nn.MaxPool2d(3, 2, padding=1)] if number < 2 else []
            previous = width
        dim = previous * (image_size // 4) ** 2
        super().__init__(
            nn.Sequential(*layers, nn.Flatten()), _layers([dim, *hidden, classes]), in_channels, classes, dim
        )


class LeNet(FeatureClassifier):
    """The network of ADDA (Tzeng et al. 2017): two 5x5 convolutions without padding, pooled, and two linear layers.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        image_size: height and width in pixels.
        widths: channels after the two convolutions.
        hidden: length of the hidden layer, which are the features.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 10,
        image_size: int = 32,
        widths: Sequence[int] = (20, 50),
        hidden: int = 500,
    ) -> None:
        layers: list[nn.Module] = []
        previous, size = in_channels, image_size
        for width in widths:
            layers += [nn.Conv2d(previous, width, 5), nn.ReLU(), nn.MaxPool2d(2)]
            previous, size = width, (size - 4) // 2
        body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(previous * size**2, hidden), nn.ReLU())
        super().__init__(body, nn.Linear(hidden, classes), in_channels, classes, hidden)


class DomainDiscriminator(nn.Module):
    """d: tells from features which of two domains they are from; linear layers with ReLU.

    Args:
        dim: length of the features.
        hidden: lengths of the hidden layers.
    """

    def __init__(self, dim: int, hidden: Sequence[int] = (100,)) -> None:
        super().__init__()
        self.layers = _layers([dim, *hidden, 1])

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, 1] of features [N, dim]; positive for the second domain."""
        logits: Tensor = self.layers(features)
        return logits
