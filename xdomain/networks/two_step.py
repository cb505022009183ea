"""Networks of the two-step method: a class-conditional generator, a discriminator with two heads, a latent encoder."""

import torch
from torch import Tensor, nn

HALVINGS = 4  # of the image in every network


def _smallest(image_size: int) -> int:
    """Side of the smallest map.

    Raises:
        ValueError: for a size that cannot be halved four times.
    """
    if image_size < 2**HALVINGS or image_size % 2**HALVINGS:
        nearest = max(1, round(image_size / 2**HALVINGS)) * 2**HALVINGS
        raise ValueError(f"image_size is {image_size}, but must be a multiple of 16: the nearest is {nearest}")
    return image_size >> HALVINGS


def _init(module: nn.Module) -> None:
    """Weights N(0, 0.02), norm scales N(1, 0.02), no biases."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


class ConditionalGenerator(nn.Module):
    """G: a latent vector and a class to an image, by four 5x5 transposed convolutions with BatchNorm, ReLU and tanh.

    Dong et al. 2017. A learned vector stands for every class and is appended to the latent vector.

    Args:
        channels: channels of the image.
        image_size: height and width in pixels, a multiple of 16.
        latent: length of the latent vector.
        classes: number of classes.
        width: channels of the last hidden map, an eighth of those of the first one.
        embedding: length of the vector of a class.
    """

    def __init__(
        self, channels: int, image_size: int, latent: int, classes: int, width: int = 128, embedding: int = 5
    ) -> None:
        super().__init__()
        side = _smallest(image_size)
        self.embedding = nn.Embedding(classes, embedding)
        first = width << (HALVINGS - 1)
        layers: list[nn.Module] = [
            nn.Linear(latent + embedding, first * side**2, bias=False),
            nn.Unflatten(1, (first, side, side)),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        ]
        for level in reversed(range(HALVINGS - 1)):
            out = width << level
            layers += [nn.ConvTranspose2d(2 * out, out, 5, 2, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 5, 2, 2, 1), nn.Tanh())
        _init(self)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images [N, channels, H, W] in [-1, 1] of latent vectors z [N, latent] and classes y, ``int64`` [N]."""
        images: Tensor = self.layers(torch.cat([z, self.embedding(y).to(z)], 1))
        return images


def _trunk(channels: int, width: int) -> nn.Sequential:
    """Four 5x5 convolutions of stride 2 with LeakyReLU(0.2), flattened; all but the first with BatchNorm."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 5, 2, 2), nn.LeakyReLU(0.2)]
    for level in range(1, HALVINGS):
        out = width << level
        layers += [nn.Conv2d(out // 2, out, 5, 2, 2, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten())


class TwoHeadDiscriminator(nn.Module):
    """D: tells real from generated images and names the class, by two linear heads on one trunk.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, a multiple of 16.
        classes: number of classes.
        width: channels after the first of four 5x5 convolutions of stride 2; doubles with each of the others.
    """

    def __init__(self, channels: int, image_size: int, classes: int, width: int = 64) -> None:
        super().__init__()
        dim = (width << (HALVINGS - 1)) * _smallest(image_size) ** 2
        self.trunk = _trunk(channels, width)
        self.source, self.kind = nn.Linear(dim, 1), nn.Linear(dim, classes)
        _init(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real [N], and of the classes [N, classes], of images [N, channels, H, W] in [-1, 1]."""
        features = self.trunk(images)
        return self.source(features)[:, 0], self.kind(features)


class LatentEncoder(nn.Module):
    """E: an image to a latent vector, by the trunk of :class:`TwoHeadDiscriminator` and a linear layer.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, a multiple of 16.
        latent: length of the latent vector.
        width: channels after the first convolution.
    """

    def __init__(self, channels: int, image_size: int, latent: int, width: int = 64) -> None:
        super().__init__()
        dim = (width << (HALVINGS - 1)) * _smallest(image_size) ** 2
        self.trunk, self.head = _trunk(channels, width), nn.Linear(dim, latent)
        _init(self)

    def forward(self, images: Tensor) -> Tensor:
        """Latent vectors [N, latent], unbounded, of images [N, channels, H, W] in [-1, 1]."""
        z: Tensor = self.head(self.trunk(images))
        return z
