"""Networks of attribute editors: AttGAN's, STGAN's with its selective transfer units, StarGAN's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdomain.networks.dcgan import halvings

MOST = 1024  # channels of AttGAN's and STGAN's maps


def _widths(image_size: int, width: int) -> list[int]:
    """Channels of the maps from half of the image's size down to 4x4."""
    return [min(width << level, MOST) for level in range(halvings(image_size))]


def tiled(maps: Tensor, label: Tensor) -> Tensor:
    """Maps [N, C, H, W] with a label [N, K] behind the channels at every position: [N, C + K, H, W]."""
    return torch.cat([maps, label.to(maps)[:, :, None, None].expand(-1, -1, *maps.shape[2:])], 1)


class AttGANGenerator(nn.Module):
    """AttGAN's G: convolutions 4x4 that halve the image down to 4x4, and as many that double; the label joins there.

    He et al., "AttGAN: Facial Attribute Editing by Only Changing What You Want", TIP 2019, as in the authors' code:
    BatchNorm, LeakyReLU(0.2) in the encoder, ReLU in the decoder, tanh. With the default width, 13 attributes and RGB
    at 128 pixels it has 43.46 million parameters.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, 4 times a power of two.
        attributes: number of attributes.
        width: channels of the largest map; doubled with each of the others, up to 1024.
        shortcuts: number of decoder layers, from the smallest map on, whose output is joined by the encoder's map of
            the same size.
        injections: number of decoder layers whose output is joined by the label again.
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        attributes: int,
        width: int = 64,
        shortcuts: int = 1,
        injections: int = 1,
    ) -> None:
        super().__init__()
        widths = _widths(image_size, width)
        last = len(widths) - 1
        self.shortcuts, self.injections = min(shortcuts, last), min(injections, last)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for before, after in zip([channels, *widths], widths, strict=False):
            conv = nn.Conv2d(before, after, 4, 2, 1, bias=False)
            self.encoder.append(nn.Sequential(conv, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)))
        previous = widths[-1] + attributes
        for i, after in enumerate(reversed(widths[1:])):
            up = nn.ConvTranspose2d(previous, after, 4, 2, 1, bias=False)
            self.decoder.append(nn.Sequential(up, nn.BatchNorm2d(after), nn.ReLU()))
            previous = after
            previous += widths[last - 1 - i] if i < self.shortcuts else 0
            previous += attributes if i < self.injections else 0
        self.decoder.append(nn.Sequential(nn.ConvTranspose2d(previous, channels, 4, 2, 1), nn.Tanh()))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Maps of images [N, C, H, W] in [-1, 1], from half of their size down to 4x4."""
        maps = [images]
        for layer in self.encoder:
            maps.append(layer(maps[-1]))
        return maps[1:]

    def decode(self, maps: Sequence[Tensor], label: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] of maps from :meth:`encode` and a label [N, K]."""
        x = tiled(maps[-1], label)
        for i, layer in enumerate(self.decoder):
            x = layer(x)
            if i < self.shortcuts:
                x = torch.cat([x, maps[len(maps) - 2 - i]], 1)
            if i < self.injections:
                x = tiled(x, label)
        return x

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        """Edited images [N, C, H, W] in [-1, 1] of images, likewise, and a label [N, K]."""
        return self.decode(self.encode(images), label)


class SelectiveTransferUnit(nn.Module):
    """STGAN's unit: selects, by the state of the next smaller map, what of an encoder's map is to be changed.

    Liu et al. 2019, (3) to (8). A GRU cell whose state s goes from small maps to large ones; f is the encoder's map::

        s' = T * s                       doubled
        r = sigmoid(W_r * [f, s'])       reset gate
        z = sigmoid(W_z * [f, s'])       update gate
        s_next = r s'
        g = tanh(W_h * [f, s_next])
        f_next = (1 - z) s' + z g

    Args:
        channels: channels of f, and of the new state.
        state: channels of s.
    """

    def __init__(self, channels: int, state: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(state, channels, 4, 2, 1)
        self.reset, self.update, self.new = (nn.Conv2d(2 * channels, channels, 3, padding=1) for _ in range(3))

    def forward(self, maps: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The transferred map and the new state, [N, C, H, W] both, of f, likewise, and of s [N, C', H/2, W/2]."""
        state = self.up(state)
        both = torch.cat([maps, state], 1)
        kept = self.reset(both).sigmoid() * state
        new = self.new(torch.cat([maps, kept], 1)).tanh()
        return torch.lerp(state, new, self.update(both).sigmoid()), kept


class STGANGenerator(AttGANGenerator):
    """STGAN's G: AttGAN's with a selective transfer unit in each of its shortcuts; the label is a difference.

    Liu et al., "STGAN: A Unified Selective Transfer Network for Arbitrary Image Attribute Editing", CVPR 2019, as in
    the authors' code: all maps but the smallest have a shortcut, the label joins at all of these. With the default
    width, 13 attributes and RGB at 128 pixels it has 75.00 million parameters.

    Args:
        channels: see :class:`AttGANGenerator`.
        image_size: likewise.
        attributes: likewise.
        width: likewise.
    """

    def __init__(self, channels: int, image_size: int, attributes: int, width: int = 64) -> None:
        widths = _widths(image_size, width)
        super().__init__(channels, image_size, attributes, width, shortcuts=len(widths), injections=len(widths))
        larger = zip(widths[1:], widths, strict=False)
        self.units = nn.ModuleList(SelectiveTransferUnit(own, state + attributes) for state, own in larger)

    def decode(self, maps: Sequence[Tensor], label: Tensor) -> Tensor:
        selected, state = [maps[-1]], maps[-1]
        for unit, own in zip(reversed(self.units), reversed(maps[:-1]), strict=True):
            chosen, state = unit(own, tiled(state, label))
            selected.insert(0, chosen)
        return super().decode(selected, label)


class AttGANDiscriminator(nn.Module):
    """D and C of AttGAN and STGAN: a critic and a classifier of attributes on the same convolutions.

    Convolutions 4x4 that halve the image down to 4x4, InstanceNorm with weights, LeakyReLU(0.2); two heads with a
    hidden layer each. With the defaults, 13 attributes and RGB at 128 pixels it has 44.72 million parameters.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, 4 times a power of two.
        attributes: number of attributes.
        width: channels of the largest map; doubled with each of the others, up to 1024.
        hidden: width of the hidden layers.
    """

    def __init__(self, channels: int, image_size: int, attributes: int, width: int = 64, hidden: int = 1024) -> None:
        super().__init__()
        widths, layers = _widths(image_size, width), list[nn.Module]()
        for before, after in zip([channels, *widths], widths, strict=False):
            conv = nn.Conv2d(before, after, 4, 2, 1, bias=False)
            layers += [conv, nn.InstanceNorm2d(after, affine=True), nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.critic, self.classifier = (
            nn.Sequential(nn.Linear(16 * widths[-1], hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, answers))
            for answers in (1, attributes)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [N, 1] and logits of the attributes [N, K] of images [N, C, H, W] in [-1, 1]."""
        features = self.trunk(images)
        return self.critic(features), self.classifier(features)


class _ResidualBlock(nn.Module):
    """Two convolutions 3x3 without bias, with zero padding and InstanceNorm with weights, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class StarGANGenerator(nn.Module):
    """StarGAN's G: CycleGAN's generator with labels joined to the images, kernels 4x4 and zero padding.

    Choi et al., "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation", CVPR
    2018. InstanceNorm has weights and, as in all the authors' code does, always the statistics of the image itself.
    With the defaults, 5 attributes and RGB it has 8.43 million parameters.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, a multiple of 4.
        attributes: number of attributes.
        width: channels after the first convolution.
        blocks: number of residual blocks.
    """

    def __init__(self, channels: int, image_size: int, attributes: int, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        if image_size % 4:
            nearest = max(1, round(image_size / 4)) * 4
            raise ValueError(f"image_size is {image_size}, but must be a multiple of 4: the nearest is {nearest}")
        layers: list[nn.Module] = [nn.Conv2d(channels + attributes, width, 7, 1, 3, bias=False)]
        layers += [nn.InstanceNorm2d(width, affine=True), nn.ReLU()]
        for before in (width, 2 * width):
            conv = nn.Conv2d(before, 2 * before, 4, 2, 1, bias=False)
            layers += [conv, nn.InstanceNorm2d(2 * before, affine=True), nn.ReLU()]
        layers += [_ResidualBlock(4 * width) for _ in range(blocks)]
        for before in (4 * width, 2 * width):
            up = nn.ConvTranspose2d(before, before // 2, 4, 2, 1, bias=False)
            layers += [up, nn.InstanceNorm2d(before // 2, affine=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        """Edited images [N, C, H, W] in [-1, 1] of images, likewise, and a label [N, K]."""
        edited: Tensor = self.layers(tiled(images, label))
        return edited


class StarGANDiscriminator(nn.Module):
    """StarGAN's D: convolutions 4x4 with LeakyReLU(0.01) that halve the image down to 2x2, then scores and logits.

    With the default width, 5 attributes and RGB at 128 pixels it has 44.76 million parameters.

    Args:
        channels: channels of the images.
        image_size: height and width in pixels, a power of two.
        attributes: number of attributes.
        width: channels after the first convolution; doubled by each of the others.
    """

    def __init__(self, channels: int, image_size: int, attributes: int, width: int = 64) -> None:
        super().__init__()
        layers, previous = list[nn.Module](), channels
        for level in range(halvings(image_size, smallest=2)):
            layers += [nn.Conv2d(previous, width << level, 4, 2, 1), nn.LeakyReLU(0.01)]
            previous = width << level
        self.trunk = nn.Sequential(*layers)
        self.critic = nn.Conv2d(previous, 1, 3, 1, 1, bias=False)
        self.classifier = nn.Conv2d(previous, attributes, 2, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of patches [N, 1, 2, 2] and logits of the attributes [N, K] of images [N, C, H, W] in [-1, 1]."""
        features = self.trunk(images)
        return self.critic(features), self.classifier(features).flatten(1)
