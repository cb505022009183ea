"""Discriminators of patches (PatchGAN)."""

import itertools
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.resnet_generator import init_gan


class PatchDiscriminator(nn.Sequential):
    """Convolutions 4x4 with LeakyReLU(0.2): images [N, C, H, W] to a map [N, 1, h, w] of scores of patches.

    Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017. ``layers``
    convolutions halve and double the channels (eight times the width at most), one more doubles them at stride 1, the
    last gives the scores, without a sigmoid. 3 layers see 70 pixels (2,764,737 parameters with RGB), 2 layers 34
    (662,977).

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution.
        layers: number of convolutions that halve.
        norm: ``instance`` without weights, or ``batch``; none behind the first convolution.
    """

    def __init__(
        self, in_channels: int = 3, width: int = 64, layers: int = 3, norm: Literal["instance", "batch"] = "instance"
    ) -> None:
        stack: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
        for number in range(1, layers + 1):
            after = min(2**number, 8) * width
            stack.append(nn.Conv2d(before, after, 4, 2 if number < layers else 1, 1, bias=norm == "instance"))
            stack += [nn.InstanceNorm2d(after) if norm == "instance" else nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
            before = after
        super().__init__(*stack, nn.Conv2d(before, 1, 4, 1, 1))
        init_gan(self)


class PairDiscriminator(PatchDiscriminator):
    """pix2pix's discriminator of pairs: condition and image, joined, with BatchNorm.

    3 layers have 2,768,705 parameters for two RGB images.

    Args:
        in_channels: channels of both together.
        width: see :class:`PatchDiscriminator`.
        layers: likewise.
    """

    def __init__(self, in_channels: int = 6, width: int = 64, layers: int = 3) -> None:
        super().__init__(in_channels, width, layers, norm="batch")


class MultiScaleDiscriminator(nn.Module):
    """UNIT's discriminator: the same stack of convolutions on the image, its half and its quarter.

    Liu, Breuel, Kautz, "Unsupervised Image-to-Image Translation Networks", NIPS 2017, as in the authors' later code:
    reflection padding, LeakyReLU(0.2), no norm, a last convolution 1x1. With the defaults and RGB it has 8,271,171
    parameters.

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution, doubled by every further one.
        layers: number of convolutions, which all halve.
        scales: number of scales.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, layers: int = 4, scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        for _ in range(scales):
            channels = [in_channels, *(width << number for number in range(layers))]
            stack: list[nn.Module] = []
            for before, after in itertools.pairwise(channels):
                stack += [nn.Conv2d(before, after, 4, 2, 1, padding_mode="reflect"), nn.LeakyReLU(0.2)]
            self.scales.append(nn.Sequential(*stack, nn.Conv2d(channels[-1], 1, 1)))
        init_gan(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of scores [N, 1, h, w] of every scale, the finest first."""
        scores = []
        for number, scale in enumerate(self.scales):
            if number:
                images = F.avg_pool2d(images, 3, 2, 1, count_include_pad=False)
            scores.append(scale(images))
        return scores
