"""The networks of MUNIT: a content code and a style code for each domain, joined by adaptive instance normalisation."""

from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.resnet_generator import init_kaiming
from xdomain.networks.unit import UNITDecoder, UNITEncoder


def adain(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive instance normalisation: maps with the mean and the deviation that a style gives them.

    Huang, Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017.

    Args:
        x: maps [N, C, H, W] of at least two pixels.
        shift: the means [N, C].
        scale: the deviations [N, C].

    Returns:
        [N, C, H, W].
    """
    return F.instance_norm(x) * scale[:, :, None, None] + shift[:, :, None, None]


class AdaINResidualBlock(nn.Module):
    """Two convolutions 3x3 with adaptive instance normalisation, ReLU between them, and the input added.

    The statistics are an argument of every call, so that one block can draw several styles and no call has a memory.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor, statistics: Tensor) -> Tensor:
        """[N, channels, H, W] to the same shape, with statistics [N, 4 channels]."""
        shift, scale, second_shift, second_scale = statistics.chunk(4, 1)
        y = adain(self.first(x), shift, scale).relu()
        return x + adain(self.second(y), second_shift, second_scale)


class MUNITStyleEncoder(nn.Sequential):
    """A convolution 7x7, four of 4x4 that halve, the mean over the map, a linear layer; ReLU, reflection, no norm.

    Images [N, C, H, W] of any size from 16x16 on become styles [N, style]. There is no norm because instance
    normalisation would remove the means and deviations that are the style.

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution, doubled twice.
        style: length of the style code.
    """

    def __init__(self, in_channels: int, width: int, style: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 7, 1, 3, padding_mode="reflect"), nn.ReLU()]
        before = width
        for after in (2 * width, 4 * width, 4 * width, 4 * width):
            layers += [nn.Conv2d(before, after, 4, 2, 1, padding_mode="reflect"), nn.ReLU()]
            before = after
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, style))


class MUNITAutoencoder(nn.Module):
    """Encoders of content and style, and a decoder, of one domain; with the defaults and RGB 15,026,187 parameters.

    Huang, Liu, Belongie, Kautz, "Multimodal Unsupervised Image-to-Image Translation", ECCV 2018, as in the authors'
    code.

    Args:
        channels: channels of the images.
        width: channels after the first convolution.
        blocks: residual blocks of the content encoder, and of the decoder.
        style: length of the style code.
    """

    def __init__(self, channels: int, width: int = 64, blocks: int = 4, style: int = 8) -> None:
        super().__init__()
        hidden = 4 * width
        self.content = UNITEncoder(channels, width, blocks)
        self.style = MUNITStyleEncoder(channels, width, style)
        layers = [nn.Linear(style, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.statistics = nn.Sequential(*layers, nn.Linear(hidden, blocks * 4 * hidden))
        self.blocks = nn.ModuleList(AdaINResidualBlock(hidden) for _ in range(blocks))
        self.image = UNITDecoder(channels, width, blocks=0)
        init_kaiming(self)

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] of content [N, 4 width, H / 4, W / 4] and styles [N, style]."""
        x = content
        for block, statistics in zip(self.blocks, self.statistics(style).chunk(len(self.blocks), 1), strict=True):
            x = block(x, statistics)
        images: Tensor = self.image(x)
        return images


class MUNITAutoencoders(nn.Module):
    """The networks of two domains, which share nothing.

    Args:
        channels: image channels of both domains.
        width: see :class:`MUNITAutoencoder`, as for the others.
        blocks: likewise.
        style: likewise.

    Attributes:
        stride: the sides of images must be multiples of it.
    """

    stride = 4

    def __init__(self, channels: tuple[int, int], width: int = 64, blocks: int = 4, style: int = 8) -> None:
        super().__init__()
        self.domains = nn.ModuleList(MUNITAutoencoder(c, width, blocks, style) for c in channels)

    def content(self, images: Tensor, domain: int) -> Tensor:
        """Content [N, 4 width, H / 4, W / 4] of images [N, C, H, W] of a domain, 0 or 1."""
        code: Tensor = self._of(domain).content(images)
        return code

    def style(self, images: Tensor, domain: int) -> Tensor:
        """Styles [N, style] of images of a domain."""
        code: Tensor = self._of(domain).style(images)
        return code

    def decode(self, content: Tensor, style: Tensor, domain: int) -> Tensor:
        """Images of a domain of content and styles."""
        return self._of(domain).decode(content, style)

    def _of(self, domain: int) -> MUNITAutoencoder:
        network = self.domains[domain]
        assert isinstance(network, MUNITAutoencoder)
        return network
