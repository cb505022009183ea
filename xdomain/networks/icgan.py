"""IcGAN's networks: a generator and a discriminator that are told attributes, and an encoder."""

import torch
from torch import Tensor, nn

from xdomain.networks.dcgan import UpConvDecoder, halvings, init_weights
from xdomain.networks.editors import tiled


class IcGANGenerator(nn.Module):
    """IcGAN's G: DCGAN's generator, with the attributes behind the latent vector.

    Perarnau et al., "Invertible Conditional GANs for Image Editing", 2016: transposed convolutions 4x4 with BatchNorm
    and ReLU, tanh. With the default width, a latent vector of 100, 18 attributes and RGB at 64 pixels it has 3.72
    million parameters.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, 4 times a power of two.
        latent: length of the latent vector.
        attributes: number of attributes.
        width: channels of the 4x4 map; halved with every doubling of the map.
    """

    def __init__(self, channels: int, image_size: int, latent: int, attributes: int, width: int = 512) -> None:
        super().__init__()
        self.layers = UpConvDecoder(latent + attributes, channels, image_size, width)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] of latent vectors z [N, latent] and attributes y [N, K] of -1 and 1."""
        images: Tensor = self.layers(torch.cat([z, y], 1))
        return images


class IcGANDiscriminator(nn.Module):
    """IcGAN's D: DCGAN's discriminator, which the attributes join behind the first convolution.

    Convolutions 4x4 of stride 2 down to 4x4, LeakyReLU(0.2), BatchNorm in all but the first, and one over the last map.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, 4 times a power of two.
        attributes: number of attributes.
        width: channels after the first convolution; doubled by each of the others.
    """

    def __init__(self, channels: int, image_size: int, attributes: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2))
        layers, previous = list[nn.Module](), width + attributes
        for level in range(1, halvings(image_size)):
            conv = nn.Conv2d(previous, previous := width << level, 4, 2, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(previous), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(previous, 1, 4), nn.Flatten(0))
        init_weights(self)

    def maps(self, images: Tensor) -> Tensor:
        """What does not depend on the attributes: [N, width, H/2, W/2] of images [N, C, H, W] in [-1, 1]."""
        maps: Tensor = self.first(images)
        return maps

    def judged(self, maps: Tensor, y: Tensor) -> Tensor:
        """Logits [N] of :meth:`maps` being those of real images with attributes y [N, K] of -1 and 1."""
        logits: Tensor = self.layers(tiled(maps, y))
        return logits

    def forward(self, images: Tensor, y: Tensor) -> Tensor:
        """Logits [N] of images [N, C, H, W] in [-1, 1] being real and having attributes y [N, K] of -1 and 1."""
        return self.judged(self.maps(images), y)


class IcGANEncoder(nn.Sequential):
    """IcGAN's encoders: four convolutions 5x5 of stride 2 and two linear layers, all but the last with BatchNorm, ReLU.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, a multiple of 16.
        outputs: length of the vector.
        width: channels after the first convolution; doubled by each of the others.
        hidden: width of the hidden layer; the paper's is 4096 for latent vectors and 512 for attributes.
    """

    def __init__(self, channels: int, image_size: int, outputs: int, width: int = 32, hidden: int = 512) -> None:
        if image_size % 16 or not image_size:
            nearest = max(1, round(image_size / 16)) * 16
            raise ValueError(f"image_size is {image_size}, but must be a multiple of 16: the nearest is {nearest}")
        layers, previous = list[nn.Module](), channels
        for level in range(4):
            conv = nn.Conv2d(previous, previous := width << level, 5, 2, 2, bias=False)
            layers += [conv, nn.BatchNorm2d(previous), nn.ReLU()]
        first = nn.Linear(previous * (image_size // 16) ** 2, hidden, bias=False)
        super().__init__(*layers, nn.Flatten(), first, nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
