"""The networks of one-shot translation: private layers near the images, shared ones in the middle."""

from collections.abc import Iterator

from torch import Tensor, nn

from xdomain.networks.resnet_generator import ResidualBlock, init_gan


class SharedAutoencoders(nn.Module):
    """Base of two autoencoders with private outer layers and a shared inside.

    Attributes:
        private_encoders: the first layers of both domains.
        encoder: the shared rest.
        decoder: the shared first layers of the decoders.
        private_decoders: the last layers of both domains.
        stride: the sides of images must be multiples of it.
    """

    private_encoders: nn.ModuleList
    encoder: nn.Module
    decoder: nn.Module
    private_decoders: nn.ModuleList
    stride: int

    def encode(self, images: Tensor, domain: int) -> Tensor:
        """Codes [N, D, h, w] of images [N, C, H, W] of a domain, 0 or 1."""
        codes: Tensor = self.encoder(self.private_encoders[domain](images))
        return codes

    def decode(self, codes: Tensor, domain: int) -> Tensor:
        """Images of a domain, [N, C, H, W] in [-1, 1], of codes."""
        images: Tensor = self.private_decoders[domain](self.decoder(codes))
        return images

    def private(self, domain: int) -> Iterator[nn.Parameter]:
        """The weights that only one domain has."""
        yield from self.private_encoders[domain].parameters()
        yield from self.private_decoders[domain].parameters()

    def shared(self) -> Iterator[nn.Parameter]:
        """The weights that both domains have."""
        yield from self.encoder.parameters()
        yield from self.decoder.parameters()


def _block(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    # Statistics are those of the batch at all times: the authors' code never leaves training mode.
    return [layer, nn.BatchNorm2d(layer.out_channels, track_running_stats=False), nn.LeakyReLU(0.05)]


class DigitAutoencoders(SharedAutoencoders):
    """The autoencoders of OST's digits: two convolutions that halve, one that doesn't, and the way back.

    Benaim, Wolf, "One-Shot Unsupervised Cross Domain Translation", NeurIPS 2018, as in the authors' code: BatchNorm, no
    biases, LeakyReLU(0.05). Private are the first convolution with its norm and the last one. With the default width,
    MNIST and SVHN they have 566,400 parameters.

    Args:
        channels: image channels of both domains.
        width: channels after the first convolution.
    """

    stride = 4

    def __init__(self, channels: tuple[int, int], width: int = 64) -> None:
        super().__init__()
        c, d = width, 2 * width
        self.private_encoders = nn.ModuleList(
            nn.Sequential(*_block(nn.Conv2d(n, c, 4, 2, 1, bias=False))) for n in channels
        )
        self.encoder = nn.Sequential(
            *_block(nn.Conv2d(c, d, 4, 2, 1, bias=False)), *_block(nn.Conv2d(d, d, 3, 1, 1, bias=False))
        )
        self.decoder = nn.Sequential(
            *_block(nn.Conv2d(d, d, 3, 1, 1, bias=False)), *_block(nn.ConvTranspose2d(d, c, 4, 2, 1, bias=False))
        )
        self.private_decoders = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(c, n, 4, 2, 1, bias=False), nn.Tanh()) for n in channels
        )


class DigitDiscriminator(nn.Sequential):
    """OST's discriminator of digits of 32 pixels: images [N, C, 32, 32] to scores [N, 1, 1, 1].

    With the default width and RGB it has 663,296 parameters.

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution.
    """

    def __init__(self, in_channels: int = 3, width: int = 64) -> None:
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.05)]
        for channels in (width, 2 * width):
            layers += _block(nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False))
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 4, bias=False))


class DrawingAutoencoders(SharedAutoencoders):
    """The autoencoders of OST's drawings and styles, out of the parts of CycleGAN's generator.

    A convolution 7x7, ``halvings`` that halve, residual blocks; then as many residual blocks and the way back. Private
    are the convolutions 7x7 and the ``private_halvings`` next to them: all for facades and maps, none for styles such
    as the seasons.

    Args:
        channels: image channels of both domains.
        width: channels after the first convolution.
        halvings: convolutions that halve.
        private_halvings: how many of them each domain has for itself.
        blocks: residual blocks of the encoder, and of the decoder.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        width: int = 64,
        halvings: int = 2,
        private_halvings: int = 2,
        blocks: int = 6,
    ) -> None:
        super().__init__()
        if not 0 <= private_halvings <= halvings:
            raise ValueError(f"private_halvings is {private_halvings}, but there are {halvings}")
        self.stride = 2**halvings
        widths = [width << number for number in range(halvings + 1)]

        def down(level: int) -> list[nn.Module]:
            after = widths[level + 1]
            return [nn.Conv2d(widths[level], after, 3, 2, 1), nn.InstanceNorm2d(after), nn.ReLU()]

        def up(level: int) -> list[nn.Module]:
            after = widths[level]
            layer = nn.ConvTranspose2d(widths[level + 1], after, 3, 2, 1, output_padding=1)
            return [layer, nn.InstanceNorm2d(after), nn.ReLU()]

        outer, inner = range(private_halvings), range(private_halvings, halvings)
        self.private_encoders = nn.ModuleList(
            nn.Sequential(
                nn.ReflectionPad2d(3),
                nn.Conv2d(n, width, 7),
                nn.InstanceNorm2d(width),
                nn.ReLU(),
                *(module for level in outer for module in down(level)),
            )
            for n in channels
        )
        rest = [ResidualBlock(widths[-1]) for _ in range(blocks)]
        self.encoder = nn.Sequential(*(module for level in inner for module in down(level)), *rest)
        rest = [ResidualBlock(widths[-1]) for _ in range(blocks)]
        self.decoder = nn.Sequential(*rest, *(module for level in reversed(inner) for module in up(level)))
        self.private_decoders = nn.ModuleList(
            nn.Sequential(
                *(module for level in reversed(outer) for module in up(level)),
                nn.ReflectionPad2d(3),
                nn.Conv2d(width, n, 7),
                nn.Tanh(),
            )
            for n in channels
        )
        init_gan(self)
