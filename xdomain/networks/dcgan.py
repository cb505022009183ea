"""Convolutional encoders, decoders, discriminators and classifiers in the style of DCGAN, for 2^k pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdomain.networks.classifier import FeatureClassifier


def halvings(image_size: int, smallest: int = 4) -> int:
    """How often a size can be halved down to ``smallest``.

    Raises:
        ValueError: if the size is not ``smallest`` times a power of two.
    """
    count = (image_size // smallest).bit_length() - 1
    if image_size < 2 * smallest or smallest << count != image_size:
        nearest = min((smallest << i for i in range(1, 12)), key=lambda size: abs(size - image_size))
        raise ValueError(
            f"image_size is {image_size}, but must be {smallest} times a power of two: the nearest is {nearest}"
        )
    return count


def init_weights(module: nn.Module, std: float = 0.02) -> None:
    """DCGAN's initialisation: convolutions N(0, std), norm scales N(1, std), no biases."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
            nn.init.zeros_(layer.bias)


class ConvClassifier(FeatureClassifier):
    """f of the Domain Transfer Network on digits: four times 3x3 convolution, pooling and ReLU, then a linear layer.

    Taigman et al. 2017, section 5.1. The features are taken before the last ReLU. With the default widths and three
    input channels it has 667,146 parameters.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        image_size: height and width in pixels, 4 times a power of two.
        widths: channels after every convolution; all but the last are followed by 2x2 pooling, the last by global
            pooling.
        batch_norm: normalise after every convolution but the last.
        dropout: dropout probability before the linear layer.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 10,
        image_size: int = 32,
        widths: Sequence[int] = (64, 128, 256, 128),
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        dim = widths[-1]
        layers: list[nn.Module] = []
        previous = in_channels
        for width in widths[:-1]:
            layers.append(nn.Conv2d(previous, width, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers += [nn.MaxPool2d(2), nn.ReLU()]
            previous = width
        layers += [nn.Conv2d(previous, dim, 3, padding=1), nn.MaxPool2d(image_size >> (len(widths) - 1))]
        head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, classes))
        super().__init__(nn.Sequential(*layers, nn.Flatten()), head, in_channels, classes, dim)


class ConvEncoder(nn.Sequential):
    """Maps an image to a vector: strided convolutions with BatchNorm and ReLU, then one over the last 4x4 map.

    Args:
        in_channels: channels of the images.
        dim: length of the vector.
        image_size: height and width in pixels.
        width: channels after the first convolution; doubles with every halving of the map.
    """

    def __init__(self, in_channels: int, dim: int, image_size: int, width: int = 64) -> None:
        layers: list[nn.Module] = []
        previous = in_channels
        for level in range(halvings(image_size)):
            layers += [nn.Conv2d(previous, width << level, 3, 2, 1, bias=False), nn.BatchNorm2d(width << level)]
            layers.append(nn.ReLU())
            previous = width << level
        super().__init__(*layers, nn.Conv2d(previous, dim, 4), nn.Flatten())
        init_weights(self)


class UpConvDecoder(nn.Module):
    """g: maps a vector to an image by 4x4 transposed convolutions with BatchNorm and ReLU, and a final tanh.

    Args:
        dim: length of the vector.
        out_channels: channels of the image.
        image_size: height and width in pixels.
        width: channels of the 4x4 map; halves with every doubling of the map.
        pointwise: add a 1x1 convolution with BatchNorm and ReLU after every block, as Taigman et al. 2017 (section 5.2)
            do for faces.
    """

    def __init__(self, dim: int, out_channels: int, image_size: int, width: int = 256, pointwise: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = dim
        for level in range(halvings(image_size)):
            out = width >> level
            stride, padding = (2, 1) if level else (1, 0)
            up = nn.ConvTranspose2d(previous, out, 4, stride, padding, bias=False)
            layers += [up, nn.BatchNorm2d(out), nn.ReLU()]
            if pointwise:
                layers += [nn.Conv2d(out, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            previous = out
        layers += [nn.ConvTranspose2d(previous, out_channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        init_weights(self)

    def forward(self, features: Tensor) -> Tensor:
        """Images [N, out_channels, image_size, image_size] in [-1, 1] of vectors [N, dim]."""
        images: Tensor = self.layers(features[:, :, None, None])
        return images


class ConvDiscriminator(nn.Module):
    """D: maps an image to class logits by strided 3x3 convolutions with LeakyReLU(0.2), and one over the last 4x4 map.

    Args:
        in_channels: channels of the images.
        image_size: height and width in pixels.
        classes: number of logits.
        width: channels after the first convolution; doubles with every halving of the map.
        batch_norm: normalise after every convolution but the first.
        dropout: dropout probability after every convolution.
        noise: standard deviation of Gaussian noise on the images while training.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        classes: int = 3,
        width: int = 64,
        batch_norm: bool = True,
        dropout: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.noise = noise
        layers: list[nn.Module] = []
        previous = in_channels
        for level in range(halvings(image_size)):
            normalise = batch_norm and level > 0
            layers.append(nn.Conv2d(previous, width << level, 3, 2, 1, bias=not normalise))
            if normalise:
                layers.append(nn.BatchNorm2d(width << level))
            layers.append(nn.LeakyReLU(0.2))
            if dropout:
                layers.append(nn.Dropout2d(dropout))
            previous = width << level
        self.layers = nn.Sequential(*layers, nn.Conv2d(previous, classes, 4), nn.Flatten())
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, in_channels, image_size, image_size] in [-1, 1]."""
        if self.noise and self.training:
            images = images + self.noise * torch.randn_like(images)
        logits: Tensor = self.layers(images)
        return logits
