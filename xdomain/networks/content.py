"""Encoders and decoders of content transfer: images to flat codes and back, for Press et al., DIDD, masks and Fader."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["instance", "batch"]


def halvings(image_size: int) -> int:
    """How many times a trunk halves an image: down to 2x2, but at most six times.

    Raises:
        ValueError: if the size is no power of two of at least 16.
    """
    if image_size < 16 or image_size & (image_size - 1):
        raise ValueError(f"image_size is {image_size}, but content transfer needs a power of two of at least 16")
    return min(image_size.bit_length() - 2, 6)


def trunk(image_size: int, width: int, depth: int | None = None) -> list[int]:
    """Channels after each halving of a plain trunk: ``width``, doubled every time up to 16 times as many.

    Args:
        image_size: height and width in pixels.
        width: channels after the first halving.
        depth: number of halvings; None is that of :func:`halvings`.

    Raises:
        ValueError: for a depth below 1 or above that.

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


class ContentEncoder(nn.Module):
    """Convolutions 4x4 of stride 2, each with a norm and LeakyReLU(0.2); the last map, flattened, is the code.

    Args:
        in_channels: channels of the images.
        channels: channels after each convolution; their number is that of the halvings.
        image_size: height and width in pixels.
        norm: ``instance`` (without weights) or ``batch``.
        spectral: divide every weight by its largest singular value (Miyato et al. 2018).
        without_norm: numbers of the convolutions, from 0, that no norm follows; -1 is the last.
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
            layer = nn.Conv2d(before, after, 4, 2, 1)
            layers.append(spectral_norm(layer) if spectral else layer)
            layers += [*([] if i in bare else [_norm(norm, after)]), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.dim = channels[-1] * (image_size >> len(channels)) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """Codes [N, dim], channel after channel, of images [N, in_channels, image_size, image_size]."""
        codes: Tensor = self.layers(images).flatten(1)
        return codes


class ContentDecoder(nn.Module):
    """Transposed convolutions 4x4 of stride 2, each but the last with a norm and an activation.

    Args:
        out_channels: channels of the result.
        image_size: height and width of the result in pixels.
        width: channels before the last layer; see :func:`trunk`.
        depth: number of doublings; see :func:`trunk`.
        norm: ``instance`` (without weights) or ``batch``.
        spectral: divide every weight but the last by its largest singular value.
        spectral_axis: axis of the weights that is one side of that matrix: 1 is that of the outputs.
        slope: of the activation below 0; 0 is ReLU.
        labels: length of a label vector that is joined, at every pixel, to the input of every layer.
        bias: give the layers biases.
        inputs: channels of the code; None is those of the trunk's last layer.
    """

    def __init__(
        self,
        out_channels: int,
        image_size: int,
        width: int,
        depth: int | None = None,
        norm: Norm = "instance",
        spectral: bool = False,
        spectral_axis: int = 1,
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
            layer: nn.Module = nn.ConvTranspose2d(before + labels, after, 4, 2, 1, bias=bias)
            layer = spectral_norm(layer, dim=spectral_axis) if spectral else layer
            activation = nn.LeakyReLU(slope) if slope else nn.ReLU()
            self.blocks.append(nn.Sequential(layer, _norm(norm, after), activation))
            before = after
        self.blocks.append(nn.ConvTranspose2d(before + labels, out_channels, 4, 2, 1, bias=bias))

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """What codes [N, D] and labels [N, labels] stand for, [N, out_channels, H, W], before any tanh or sigmoid."""
        x = codes.reshape(-1, *self.shape)
        for block in self.blocks:
            if labels is not None:
                x = torch.cat([x, labels[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
            x = block(x)
        return x


class CodeDiscriminator(nn.Sequential):
    """d: which domain is a code of? Codes [N, dim] to logits [N, 1] by two linear layers with LeakyReLU(0.2) between.

    Args:
        dim: length of the codes.
        hidden: length of the hidden layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))


class LinearDiscriminant(nn.Module):
    """How far apart are the mean codes of two domains, along the direction in which they are farthest?

    Fisher's linear discriminant (1936) in closed form, as an adversary that needs no training: from the difference g of
    the means and the covariance S within the domains, both running averages over batches, w = S^-1 g, scaled so that
    codes of one domain have deviation 1 along it. What it minimises is what a linear probe would find, also in
    directions in which codes vary little: a discriminator that learns from batches overlooks these, decoders do not.

    Args:
        dim: length of the codes; the covariance has its square.
        momentum: share of every batch in the running averages.
        ridge: what is added to every variance, as a share of their mean.
    """

    gap: Tensor
    covariance: Tensor
    batches: Tensor

    def __init__(self, dim: int, momentum: float = 0.05, ridge: float = 0.05) -> None:
        super().__init__()
        self.momentum, self.ridge = momentum, ridge
        self.register_buffer("gap", torch.zeros(dim))
        self.register_buffer("covariance", torch.zeros(dim, dim))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, codes_a: Tensor, codes_b: Tensor, reduce: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """Difference of the means along w, which first learns from these codes.

        Args:
            codes_a: of domain a, [N, dim].
            codes_b: of domain b, [M, dim].
            reduce: averages a tensor over all processes.

        Returns:
            scalar, in standard deviations; its gradient reaches the codes through their means alone.
        """
        with torch.autocast(codes_a.device.type, enabled=False):
            a, b = codes_a.float(), codes_b.float()
            gap = a.mean(0) - b.mean(0)
            with torch.no_grad():
                centred = torch.cat([a - a.mean(0), b - b.mean(0)])
                covariance = centred.T @ centred / max(len(centred) - 2, 1)
                self.batches += 1
                share = max(self.momentum, 1 / int(self.batches))  # the first batches count equally
                self.gap.lerp_(reduce(gap), share)
                self.covariance.lerp_(reduce(covariance), share)
            return (gap * self.direction()).sum()

    @torch.no_grad()
    def direction(self) -> Tensor:
        """The direction w [dim]; zeros where the means are equal."""
        ridge = self.ridge * self.covariance.diagonal().mean()
        within = self.covariance + ridge.clamp(min=1e-12) * torch.eye(len(self.gap), device=self.gap.device)
        w: Tensor = torch.linalg.solve(within, self.gap)
        return w / (w @ within @ w).clamp(min=1e-12).sqrt()


class LinearErasure(nn.Module):
    """Takes out of codes what a linear probe would read the domain from, and as little else as possible.

    Belrose et al., "LEACE: Perfect linear concept erasure in closed form", NeurIPS 2023, for two classes: with the
    difference g of the means, the covariance S within the domains, the mean m of both and w = S^-1 g / (g S^-1 g), a
    code c becomes c - (w (c - m)) g. The means are equal then, and of all linear maps that make them so this one moves
    codes least, measured by S.

    Args:
        dim: length of the codes.
        ridge: what is added to every variance, as a share of their mean.
    """

    gap: Tensor
    mean: Tensor
    w: Tensor

    def __init__(self, dim: int, ridge: float = 0.01) -> None:
        super().__init__()
        self.ridge = ridge
        for name in ("gap", "mean", "w"):
            self.register_buffer(name, torch.zeros(dim))

    @torch.no_grad()
    def fit(self, codes_a: Tensor, codes_b: Tensor) -> None:
        """Learn from codes [N, dim] of domain a and [M, dim] of domain b, in float."""
        mean_a, mean_b = codes_a.mean(0), codes_b.mean(0)
        centred = torch.cat([codes_a - mean_a, codes_b - mean_b])
        within = centred.T @ centred / max(len(centred) - 2, 1)
        ridge = self.ridge * within.diagonal().mean()
        gap = mean_a - mean_b
        w = torch.linalg.solve(within + ridge.clamp(min=1e-12) * torch.eye(len(gap), device=gap.device), gap)
        self.gap.copy_(gap)
        self.mean.copy_((mean_a + mean_b) / 2)
        self.w.copy_(w / (w @ gap).clamp(min=1e-12))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [N, dim] without the domain; as they are before it has learned."""
        with torch.autocast(codes.device.type, enabled=False):
            x = codes.float()
            return x - ((x - self.mean) @ self.w)[:, None] * self.gap


class ContentRegions(nn.Module):
    """Where the contents of two domains are in aligned images, and which of them.

    Content is where translations change images in the mean: what they take from images of the one domain, less what
    they take from those of the other, the largest absolute difference over the channels, above a share of its maximum.
    Whose content it is, variation tells: the presence of a content looks different on everyone who has it, its absence
    does not. Over decodings of one common code with the separate codes of many images of a domain, the deviation is
    large where that domain's content is, and small where only that of the other is missing. A pixel is in the region of
    a domain if its deviation, relative to the largest, is at least half that of the other domain, and owned by the
    domain whose is larger. Differences and deviations are averaged over 3x3 pixels first; regions grow by one pixel,
    and their edges are means over 3x3 pixels.

    Args:
        channels: of the images.
        image_size: their side in pixels.
        dim: length of a separate code.
        share: of the largest difference, above which there is content.
    """

    learned: Tensor
    regions: Tensor
    owned: Tensor
    mean: Tensor
    typical: Tensor

    def __init__(self, channels: int, image_size: int, dim: int, share: float) -> None:
        super().__init__()
        self.share = share
        shape = (2, 1, image_size, image_size)
        self.register_buffer("learned", torch.tensor(False))
        self.register_buffer("regions", torch.zeros(shape))
        self.register_buffer("owned", torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(channels, image_size, image_size))
        self.register_buffer("typical", torch.zeros(2, dim))

    @torch.no_grad()
    def fit(self, change: Tensor, deviations: Tensor, mean: Tensor) -> None:
        """Learn the places.

        Args:
            change: what translations take from images of the first domain in the mean, less the same of the second,
                [C, H, W].
            deviations: of the decodings for both domains, [2, H, W].
            mean: image of both domains, [C, H, W].
        """
        difference = _averaged(change.abs().amax(0)[None, None])
        content = difference > self.share * difference.max()
        relative = _averaged(deviations[:, None])
        relative = relative / relative.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        others = relative.flip(0)
        self.regions.copy_(F.max_pool2d((content & (relative >= others / 2)).float(), 3, 1, 1))
        self.owned.copy_(F.max_pool2d((content & (relative > others)).float(), 3, 1, 1))
        self.mean.copy_(mean)
        self.learned.fill_(True)

    def within(self, *domains: int) -> Tensor:
        """Soft mask [1, 1, H, W] of where the content of any of these domains may be."""
        return _averaged(self.regions[list(domains)].amax(0, keepdim=True))

    def owned_by(self, domain: int) -> Tensor:
        """Soft mask [1, 1, H, W] of what varies more with the content of this domain."""
        return _averaged(self.owned[domain : domain + 1])

    def overlap(self) -> Tensor:
        """Soft mask [1, 1, H, W] of what is in both regions."""
        return _averaged(self.regions.prod(0, keepdim=True))

    def seen_by(self, domain: int, images: Tensor) -> Tensor:
        """Images [N, C, H, W] with the mean image where the content of the other domain is."""
        return images.lerp(self.mean.to(images), self.owned_by(1 - domain).to(images))


def _averaged(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class FaderDiscriminator(nn.Module):
    """Latent discriminator of Lample et al. 2017: goes on where :class:`ContentEncoder` stops, down to 1x1.

    Convolutions 4x4 of stride 2 with BatchNorm, LeakyReLU(0.2) and dropout, which double the channels up to ``widest``;
    two linear layers.

    Args:
        shape: channels, height and width of the code.
        labels: number of logits.
        widest: most channels, and length of the hidden layer.
        dropout: probability of dropping a value.
    """

    def __init__(self, shape: tuple[int, int, int], labels: int, widest: int = 512, dropout: float = 0.3) -> None:
        super().__init__()
        channels, size, _ = self.shape = shape
        layers: list[nn.Module] = []
        for _ in range(size.bit_length() - 1):
            before, channels = channels, min(2 * channels, widest)
            layers += [nn.Conv2d(before, channels, 4, 2, 1), nn.BatchNorm2d(channels)]
            layers += [nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        head = [nn.Flatten(), nn.Linear(channels, widest), nn.LeakyReLU(0.2), nn.Linear(widest, labels)]
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits [N, labels] of codes [N, D]."""
        logits: Tensor = self.layers(codes.reshape(-1, *self.shape))
        return logits
