"""Encoders and decoders of content transfer: images to flat codes and back, for Press et al., DIDD, masks and Fader."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from xdomain.networks.halving import DoublingConv, HalvingConv
from xdomain.networks.spectral import spectral_norm

Norm = Literal["instance", "batch"]


def halvings(image_size: int) -> int:
    """Number of times a trunk halves an image: while its side is even and above 2, at most six times.

    Raises:
        ValueError: if the size is not a multiple of 8 of at least 16.

    Example:
        >>> halvings(64), halvings(96), halvings(72)
        (5, 5, 3)
    """
    if image_size < 16 or image_size % 8:
        nearest = max(16, 8 * round(image_size / 8))
        raise ValueError(
            f"image_size is {image_size}, but content transfer needs a multiple of 8 of at least 16: the nearest is "
            f"{nearest}"
        )
    times = (image_size & -image_size).bit_length() - 1
    return min(times - (image_size == 1 << times), 6)


def trunk(image_size: int, width: int, depth: int | None = None) -> list[int]:
    """Channels after each halving of a plain trunk: ``width``, doubled every time, up to 16 times ``width``.

    Args:
        image_size: height and width in pixels.
        width: channels after the first halving.
        depth: number of halvings; by default that of :func:`halvings`.

    Raises:
        ValueError: for a depth below 1 or above the default.

    Example:
        >>> trunk(128, 32), trunk(32, 32)
        ([32, 64, 128, 256, 512, 512], [32, 64, 128, 256])
    """
    most = halvings(image_size)
    if depth is not None and not 1 <= depth <= most:
        raise ValueError(f"depth is {depth}, but images of {image_size} pixels can be halved 1 to {most} times")
    return [width << min(i, 4) for i in range(most if depth is None else depth)]


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)


class CodeEncoder(nn.Module):
    """4x4 convolutions of stride 2, each with normalisation and LeakyReLU(0.2); the flattened last map is the code.

    Args:
        in_channels: channels of the images.
        channels: channels after each convolution, one entry per halving.
        image_size: height and width in pixels.
        norm: ``instance`` (without affine weights) or ``batch``.
        spectral: divide every weight by its largest singular value (Miyato et al. 2018).
        without_norm: indices of the convolutions without normalisation, from 0; -1 is the last.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        image_size: int,
        norm: Norm = "instance",
        spectral: bool = False,
        without_norm: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if min(channels) < 1:
            raise ValueError(f"channels are {[*channels]}: separate codes leave none for another; lower sep or widen")
        bare = {i % len(channels) for i in without_norm}
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip([in_channels, *channels], channels, strict=False)):
            layer = HalvingConv(before, after)
            layers.append(spectral_norm(layer) if spectral else layer)
            layers += [*([] if i in bare else [_norm(norm, after)]), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.dim = channels[-1] * (image_size >> len(channels)) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """Codes [N, dim], channels first, of images [N, in_channels, image_size, image_size]."""
        codes: Tensor = self.layers(images).flatten(1)
        return codes


class CodeDecoder(nn.Module):
    """4x4 transposed convolutions of stride 2, all but the last with normalisation and activation.

    Args:
        out_channels: channels of the result.
        image_size: height and width of the result in pixels.
        width: channels before the last layer; see :func:`trunk`.
        depth: number of doublings; see :func:`trunk`.
        norm: ``instance`` (without affine weights) or ``batch``.
        spectral: divide every weight but the last by its largest singular value.
        slope: negative slope of the activation; 0 is ReLU.
        labels: length of a label vector that is concatenated, at every pixel, to the input of every layer.
        bias: give the layers biases.
        inputs: channels of the code; by default those of the trunk's last layer.
    """

    def __init__(
        self,
        out_channels: int,
        image_size: int,
        width: int,
        depth: int | None = None,
        norm: Norm = "instance",
        spectral: bool = False,
        slope: float = 0.0,
        labels: int = 0,
        bias: bool = True,
        inputs: int | None = None,
    ) -> None:
        super().__init__()
        *hidden, last = trunk(image_size, width, depth)
        inputs = last if inputs is None else inputs
        self.shape = (inputs, image_size >> len(hidden) + 1, image_size >> len(hidden) + 1)
        self.blocks = nn.ModuleList()
        before = inputs
        for after in reversed(hidden):
            layer: nn.Module = DoublingConv(before + labels, after, bias)
            layer = spectral_norm(layer) if spectral else layer
            activation = nn.LeakyReLU(slope) if slope else nn.ReLU()
            self.blocks.append(nn.Sequential(layer, _norm(norm, after), activation))
            before = after
        self.blocks.append(DoublingConv(before + labels, out_channels, bias))

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode codes [N, D] and labels [N, labels] to [N, out_channels, H, W], before any tanh or sigmoid."""
        x = codes.reshape(-1, *self.shape)
        for block in self.blocks:
            if labels is not None:
                x = torch.cat([x, labels[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
            x = block(x)
        return x


class CodeDiscriminator(nn.Sequential):
    """d: classifies the domain of codes. [N, dim] to logits [N, 1], two linear layers with LeakyReLU(0.2) between.

    Args:
        dim: length of the codes.
        hidden: length of the hidden layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))


class FaderDiscriminator(nn.Module):
    """Latent discriminator of Lample et al. 2017: continues from the last map of :class:`CodeEncoder` down to 1x1.

    4x4 convolutions of stride 2 with BatchNorm, LeakyReLU(0.2) and dropout, which double the channels up to ``widest``,
    then two linear layers.

    Args:
        shape: channels, height and width of the code.
        labels: number of logits.
        widest: largest number of channels, and length of the hidden layer.
        dropout: probability of dropping a value.
    """

    def __init__(self, shape: tuple[int, int, int], labels: int, widest: int = 512, dropout: float = 0.3) -> None:
        super().__init__()
        channels, size, _ = self.shape = shape
        layers: list[nn.Module] = []
        for _ in range(size.bit_length() - 1):
            before, channels = channels, min(2 * channels, widest)
            layers += [HalvingConv(before, channels), nn.BatchNorm2d(channels)]
            layers += [nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        head = [nn.Flatten(), nn.Linear(channels, widest), nn.LeakyReLU(0.2), nn.Linear(widest, labels)]
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits [N, labels] of codes [N, D]."""
        logits: Tensor = self.layers(codes.reshape(-1, *self.shape))
        return logits
