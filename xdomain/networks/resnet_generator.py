"""The residual generator of CycleGAN, also with the anti-aliased resampling of CUT."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two convolutions 3x3 with InstanceNorm, ReLU between them, and the input added.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] to the same shape."""
        y: Tensor = x + self.layers(x)
        return y


class BlurPool(nn.Module):
    """Halves maps [N, C, H, W] behind a binomial filter [1, 2, 1] (Zhang, ICML 2019)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, ceil(H / 2), ceil(W / 2)]."""
        channels = x.shape[1]
        kernel = self.kernel.to(x).expand(channels, 1, -1, -1)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, stride=2, groups=channels)


class BlurUpsample(nn.Module):
    """Doubles maps [N, C, H, W] by a transposed convolution with the filter [1, 3, 3, 1] (Zhang, ICML 2019)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4  # twice a mean: zeros stand between the values
        self.register_buffer("kernel", torch.outer(row, row), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, 2 H, 2 W]."""
        channels = x.shape[1]
        kernel = self.kernel.to(x).expand(channels, 1, -1, -1)
        padded = F.pad(x, (1, 1, 1, 1), "replicate")
        return F.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=channels)


def init_gan(network: nn.Module, xavier: bool = False) -> None:
    """Weights of convolutions from N(0, 0.02), or by Xavier's rule with gain 0.02 as in CUT; biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            if xavier:
                nn.init.xavier_normal_(module.weight, 0.02)
            else:
                nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def init_kaiming(network: nn.Module) -> None:
    """Weights of convolutions and linear layers by the rule of He et al. (ICCV 2015) for ReLU; biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ResnetGenerator(nn.Sequential):
    """CycleGAN's generator: a convolution 7x7, two that halve, residual blocks, two that double, one 7x7 with tanh.

    Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV
    2017; after Johnson et al. 2016. InstanceNorm has neither weights nor running statistics, so that every image is
    translated by itself. With the default width, 9 blocks and RGB it has 11,378,179 parameters, with 6 blocks
    7,837,699.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the translations.
        width: channels after the first convolution.
        blocks: number of residual blocks; the papers have 6 below and 9 from 256 pixels on.
        antialias: resample by binomial filters, with Xavier's initialisation, as in CUT.

    Attributes:
        stride: the sides of images must be multiples of it.
    """

    stride = 4

    def __init__(
        self, in_channels: int = 3, out_channels: int = 3, width: int = 64, blocks: int = 9, antialias: bool = False
    ) -> None:
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7)]
        layers += [nn.InstanceNorm2d(width), nn.ReLU()]
        for channels in (width, 2 * width):
            down = nn.Conv2d(channels, 2 * channels, 3, 1 if antialias else 2, 1)
            layers += [down, nn.InstanceNorm2d(2 * channels), nn.ReLU(), *([BlurPool()] if antialias else [])]
        layers += [ResidualBlock(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            if antialias:
                layers += [BlurUpsample(), nn.Conv2d(channels, channels // 2, 3, padding=1)]
            else:
                layers += [nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)]
            layers += [nn.InstanceNorm2d(channels // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        super().__init__(*layers)
        init_gan(self, xavier=antialias)

    def maps(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Outputs of some layers by their number, in rising order; nothing behind the last of them is computed."""
        return self.with_maps(images, layers, until=max(layers))[1]

    def with_maps(self, images: Tensor, layers: Sequence[int], until: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """The output and those of some layers by their number, in rising order, in one pass."""
        x, found = images, []
        for number, layer in enumerate(self):
            x = layer(x)
            if number in layers:
                found.append(x)
            if number == until:
                break
        return x, found

    def width_of(self, layer: int) -> int:
        """Number of channels behind a layer."""
        for module in reversed(list(self)[: layer + 1]):
            if isinstance(module, ResidualBlock):
                module = module.layers[5]
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                return module.out_channels
        first = self[1]
        assert isinstance(first, nn.Conv2d)
        return first.in_channels
