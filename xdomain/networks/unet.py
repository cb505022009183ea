"""The U-Net of pix2pix."""

import torch
from torch import Tensor, nn

from xdomain.networks.resnet_generator import init_gan


class UNetGenerator(nn.Module):
    """Convolutions that halve down to one pixel or more, others that double again and see the maps on the way down.

    Isola, Zhu, Zhou, Efros, CVPR 2017, section 6.1. All are 4x4 of stride 2 with BatchNorm but behind the first, the
    innermost and the last; LeakyReLU(0.2) goes down, ReLU up; dropout behind the first three that double, as long as
    these have the most channels. 8 halvings with the default width have
    54,413,955 parameters with RGB, 7 have 41,828,995.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the translations.
        width: channels after the first convolution, doubled up to eight times as many.
        depth: number of halvings; the sides of images must be multiples of 2^depth.
        dropout: probability of dropping a value.

    Attributes:
        stride: 2^depth.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 3, width: int = 64, depth: int = 8, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is {depth}: a U-Net halves at least twice")
        self.stride = 2**depth
        widths = [width * min(2**level, 8) for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for level, after in enumerate(widths):
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
            if 0 < level < depth - 1:
                layers.append(nn.BatchNorm2d(after))
            self.down.append(nn.Sequential(*layers))
            before = after
        for number, level in enumerate(range(depth - 1, 0, -1)):
            inputs = widths[level] * (1 if level == depth - 1 else 2)
            after = widths[level - 1]
            layers = [nn.ReLU(), nn.ConvTranspose2d(inputs, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)]
            if number < 3 and after == 8 * width:
                layers.append(nn.Dropout(dropout))
            self.up.append(nn.Sequential(*layers))
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, out_channels, 4, 2, 1), nn.Tanh())
        init_gan(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] to [N, out_channels, H, W] in [-1, 1]."""
        skips = []
        x = images
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = torch.cat([skips.pop(), up(x)], 1)
        result: Tensor = self.last(x)
        return result
