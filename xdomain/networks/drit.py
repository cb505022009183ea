"""The networks of DRIT: encoders of content and attributes, a generator that mixes them, a judge of content."""

import torch
from torch import Tensor, nn

from xdomain.networks.resnet_generator import ResidualBlock, init_gan
from xdomain.networks.unit import ImageNorm


class DRITContentEncoder(nn.Module):
    """A convolution 7x7, two of 3x3 that halve, residual blocks; the last block is that of both domains.

    Lee, Tseng, Huang, Singh, Yang, "Diverse Image-to-Image Translation via Disentangled Representations", ECCV 2018, as
    in the authors' code. In training N(0, 1) is added to the code. With the defaults and RGB 9,018,112 parameters.

    Args:
        channels: image channels of both domains.
        width: channels after the first convolution.
        blocks: residual blocks of each domain.
    """

    def __init__(self, channels: tuple[int, int], width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.domains = nn.ModuleList()
        for own in channels:
            layers: list[nn.Module] = [nn.Conv2d(own, width, 7, 1, 3, padding_mode="reflect"), nn.LeakyReLU(0.01)]
            for before in (width, 2 * width):
                layers += [nn.Conv2d(before, 2 * before, 3, 2, 1, padding_mode="reflect")]
                layers += [nn.InstanceNorm2d(2 * before), nn.ReLU()]
            self.domains.append(nn.Sequential(*layers, *(ResidualBlock(4 * width) for _ in range(blocks))))
        self.shared = ResidualBlock(4 * width)
        init_gan(self)

    def forward(self, images: Tensor, domain: int) -> Tensor:
        """Content [N, 4 width, H / 4, W / 4] of images [N, C, H, W] of a domain, 0 or 1."""
        code: Tensor = self.shared(self.domains[domain](images))
        return code + torch.randn_like(code) if self.training else code


class MeanPoolBlock(nn.Module):
    """A residual block that halves: LeakyReLU(0.2) and a convolution 3x3, twice, then the means of 2x2 pixels.

    Args:
        before: channels of the input.
        after: channels of the output.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(before, before, 3, padding=1, padding_mode="reflect"),
            nn.LeakyReLU(0.2),
            nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect"),
            nn.AvgPool2d(2),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] to [N, after, H / 2, W / 2]."""
        y: Tensor = self.layers(x) + self.shortcut(x)
        return y


class DRITAttributeEncoder(nn.Module):
    """A convolution 4x4 and three residual blocks, which all halve, to mean and log-variance of an attribute vector.

    The two domains share nothing. With the defaults and RGB 2,688,160 parameters.

    Args:
        channels: image channels of both domains.
        width: channels after the first convolution.
        style: length of the attribute vector.
    """

    def __init__(self, channels: tuple[int, int], width: int = 64, style: int = 8) -> None:
        super().__init__()
        self.domains, self.heads = nn.ModuleList(), nn.ModuleList()
        for own in channels:
            blocks = [MeanPoolBlock(number * width, (number + 1) * width) for number in (1, 2, 3)]
            first = nn.Conv2d(own, width, 4, 2, 1, padding_mode="reflect")
            pooled = [nn.LeakyReLU(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            self.domains.append(nn.Sequential(first, *blocks, *pooled))
            self.heads.append(nn.Linear(4 * width, 2 * style))
        init_gan(self)

    def forward(self, images: Tensor, domain: int) -> tuple[Tensor, Tensor]:
        """Means and log-variances [N, style] of images [N, C, H, W] of a domain, at least 16x16."""
        mean, logvar = self.heads[domain](self.domains[domain](images)).chunk(2, 1)
        return mean, logvar


class DRITDecoder(nn.Module):
    """Residual blocks, two transposed convolutions that double, one 1x1 with tanh; all get the attributes as well.

    Args:
        out_channels: channels of the images.
        width: a quarter of the channels of the content.
        blocks: residual blocks.
        style: length of the attribute vector, which is appended to every pixel in front of each of the four parts.
    """

    def __init__(self, out_channels: int, width: int, blocks: int, style: int) -> None:
        super().__init__()
        channels = 4 * width + style
        self.parts = nn.ModuleList([nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))])
        for _ in range(2):
            before = channels + style
            channels = before // 2
            up = nn.ConvTranspose2d(before, channels, 3, 2, 1, output_padding=1)
            self.parts.append(nn.Sequential(up, ImageNorm(channels), nn.ReLU()))
        self.parts.append(nn.Sequential(nn.Conv2d(channels + style, out_channels, 1), nn.Tanh()))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[N, 4 width, H / 4, W / 4] and [N, style] to images [N, C, H, W] in [-1, 1]."""
        for part in self.parts:
            x = part(torch.cat([x, style[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1))
        return x


class DRITGenerator(nn.Module):
    """A residual block of both domains and a decoder for each; with the defaults and RGB 9,564,710 parameters.

    Args:
        channels: image channels of both domains.
        width: a quarter of the channels of the content.
        blocks: residual blocks of each decoder.
        style: length of the attribute vector.

    Attributes:
        stride: the sides of images must be multiples of it.
    """

    stride = 4

    def __init__(self, channels: tuple[int, int], width: int = 64, blocks: int = 3, style: int = 8) -> None:
        super().__init__()
        self.shared = ResidualBlock(4 * width)
        self.domains = nn.ModuleList(DRITDecoder(own, width, blocks, style) for own in channels)
        init_gan(self)

    def decode(self, x: Tensor, style: Tensor, domain: int) -> Tensor:
        """Images of a domain, [N, C, H, W] in [-1, 1], of what ``shared`` makes of content, and attributes."""
        images: Tensor = self.domains[domain](x, style)
        return images

    def forward(self, content: Tensor, style: Tensor, domain: int) -> Tensor:
        """Images of a domain of content [N, 4 width, H / 4, W / 4] and attributes [N, style]."""
        return self.decode(self.shared(content), style, domain)


class ContentDiscriminator(nn.Sequential):
    """Tells the content of two domains apart: [N, channels, h, w] to logits [N, 1], positive for the second.

    ``halvings`` convolutions of stride 2 with InstanceNorm, one 4x4 without padding, one 1x1; LeakyReLU(0.01),
    reflection. The logits of larger maps are averaged. With 256 channels and the defaults, the authors', it has
    10,683,649 parameters and needs images of 212 pixels; give kernel 7 and 2 halvings for 128 pixels, kernel 3 and 2
    for 64.

    Args:
        channels: of the content, and of all hidden maps.
        kernel: of the convolutions that halve, an odd number.
        halvings: their number.

    Attributes:
        least: the smallest height and width of content.
    """

    def __init__(self, channels: int, kernel: int = 7, halvings: int = 3) -> None:
        layers: list[nn.Module] = []
        for _ in range(halvings):
            layers += [nn.Conv2d(channels, channels, kernel, 2, 1, padding_mode="reflect")]
            layers += [nn.InstanceNorm2d(channels), nn.LeakyReLU(0.01)]
        layers += [nn.Conv2d(channels, channels, 4), nn.LeakyReLU(0.01), nn.Conv2d(channels, 1, 1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        init_gan(self)
        self.least = 4
        for _ in range(halvings):
            self.least = 2 * (self.least - 1) + kernel - 2
