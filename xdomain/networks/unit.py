"""The networks of UNIT: encoders into a code that both domains share, and decoders out of it."""

import torch
from torch import Tensor, nn

from xdomain.networks.resnet_generator import ResidualBlock, init_gan


class ImageNorm(nn.Module):
    """Every image of a batch normalised over all its values, with a scale and a shift for each channel.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] to the same shape."""
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        mean, std = (value.view(-1, 1, 1, 1) for value in (flat.mean(1), flat.std(1)))
        return (x - mean) / (std + 1e-5) * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)


class UNITEncoder(nn.Sequential):
    """A convolution 7x7, two of 4x4 that halve, residual blocks; InstanceNorm, ReLU, reflection.

    Liu, Breuel, Kautz, NIPS 2017, as in the authors' later code.

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution.
        blocks: residual blocks.
    """

    def __init__(self, in_channels: int, width: int, blocks: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 7, 1, 3, padding_mode="reflect")]
        layers += [nn.InstanceNorm2d(width), nn.ReLU()]
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 4, 2, 1, padding_mode="reflect")]
            layers += [nn.InstanceNorm2d(2 * channels), nn.ReLU()]
        super().__init__(*layers, *(ResidualBlock(4 * width) for _ in range(blocks)))
        init_gan(self)


class UNITDecoder(nn.Sequential):
    """Residual blocks, two times a doubling by repetition and a convolution 5x5, one 7x7 with tanh.

    Args:
        out_channels: channels of the images.
        width: channels before the last convolution.
        blocks: residual blocks.
    """

    def __init__(self, out_channels: int, width: int, blocks: int) -> None:
        layers: list[nn.Module] = [ResidualBlock(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels // 2, 5, 1, 2, padding_mode="reflect")]
            layers += [ImageNorm(channels // 2), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(width, out_channels, 7, 1, 3, padding_mode="reflect"), nn.Tanh())
        init_gan(self)


class UNITAutoencoders(nn.Module):
    """An encoder and a decoder for each of two domains, which share the residual blocks next to the code.

    With the defaults and RGB a domain has 11,140,483 parameters of its own if nothing is shared.

    Args:
        channels: image channels of both domains.
        width: channels after the first convolution.
        blocks: residual blocks of every encoder and of every decoder.
        share: how many of them, next to the code, both domains share: 0 as in the authors' later code.

    Attributes:
        stride: the sides of images must be multiples of it.
    """

    stride = 4

    def __init__(self, channels: tuple[int, int], width: int = 64, blocks: int = 4, share: int = 1) -> None:
        super().__init__()
        if not 0 <= share <= blocks:
            raise ValueError(f"share is {share}, but there are {blocks} blocks")
        self.share = share
        self.encoders = nn.ModuleList(UNITEncoder(c, width, blocks) for c in channels)
        self.decoders = nn.ModuleList(UNITDecoder(c, width, blocks) for c in channels)
        for encoder in self.encoders:
            for number in range(share):
                encoder[-1 - number] = self.encoders[0][-1 - number]  # type: ignore[index, operator]
        for decoder in self.decoders:
            for number in range(share):
                decoder[number] = self.decoders[0][number]  # type: ignore[index, operator]

    def encode(self, images: Tensor, domain: int) -> Tensor:
        """Codes [N, 4 width, H / 4, W / 4] of images [N, C, H, W] of a domain, 0 or 1."""
        codes: Tensor = self.encoders[domain](images)
        return codes

    def decode(self, codes: Tensor, domain: int) -> Tensor:
        """Images of a domain, [N, C, H, W] in [-1, 1], of codes."""
        images: Tensor = self.decoders[domain](codes)
        return images

    def decode_into_both(self, codes: Tensor) -> list[Tensor]:
        """Images of the first and of the second domain of the same codes; the shared blocks run once."""
        for block in [*self.decoders[0].children()][: self.share]:
            codes = block(codes)
        images = []
        for decoder in self.decoders:
            x = codes
            for layer in [*decoder.children()][self.share :]:
                x = layer(x)
            images.append(x)
        return images
