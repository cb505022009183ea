"""Statistics of codes and images that are fitted in closed form instead of trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearDiscriminant(nn.Module):
    """Distance between the mean codes of two domains along the direction that separates them best.

    Fisher's linear discriminant (1936) in closed form, as an adversary that needs no training: from the difference g of
    the means and the covariance S within the domains, both running averages over batches, w = S^-1 g, scaled so that
    codes of one domain have deviation 1 along it. Minimising it removes what a linear probe would find, also in
    directions in which codes vary little: a discriminator trained on batches misses these, decoders do not.

    Args:
        dim: length of the codes; the covariance is dim x dim.
        momentum: share of every batch in the running averages.
        ridge: value added to every variance, as a share of their mean.
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
        """Difference of the means along w, after updating w with these codes.

        Args:
            codes_a: codes of domain a, [N, dim].
            codes_b: codes of domain b, [M, dim].
            reduce: averages a tensor over all processes.

        Returns:
            scalar, in standard deviations; gradients reach the codes only through their means.
        """
        with torch.autocast(codes_a.device.type, enabled=False):
            a, b = codes_a.float(), codes_b.float()
            gap = a.mean(0) - b.mean(0)
            with torch.no_grad():
                centred = torch.cat([a - a.mean(0), b - b.mean(0)])
                covariance = centred.T @ centred / max(len(centred) - 2, 1)
                self.batches += 1
                share = max(self.momentum, 1 / int(self.batches))  # the first batches have equal weights
                self.gap.lerp_(reduce(gap), share)
                self.covariance.lerp_(reduce(covariance), share)
            return (gap * self.direction()).sum()

    @torch.no_grad()
    def direction(self) -> Tensor:
        """The direction w [dim]; zeros if the means are equal."""
        ridge = self.ridge * self.covariance.diagonal().mean()
        within = self.covariance + ridge.clamp(min=1e-12) * torch.eye(len(self.gap), device=self.gap.device)
        w: Tensor = torch.linalg.solve(within, self.gap)
        return w / (w @ within @ w).clamp(min=1e-12).sqrt()


class LinearErasure(nn.Module):
    """Removes from codes what a linear probe could read the domain from, and as little else as possible.

    Belrose et al., "LEACE: Perfect linear concept erasure in closed form", NeurIPS 2023, for two classes: with the
    difference g of the means, the covariance S within the domains, the mean m of both and w = S^-1 g / (g S^-1 g), a
    code c becomes c - (w (c - m)) g. The means are then equal, and among all linear maps with this property, this one
    changes codes least, measured by S.

    Args:
        dim: length of the codes.
        ridge: value added to every variance, as a share of their mean.
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
        """Fit to codes [N, dim] of domain a and [M, dim] of domain b, in float."""
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
        """Codes [N, dim] with the domain removed; unchanged before :meth:`fit`."""
        with torch.autocast(codes.device.type, enabled=False):
            x = codes.float()
            return x - ((x - self.mean) @ self.w)[:, None] * self.gap


class ContentRegions(nn.Module):
    """Regions of the contents of two domains in aligned images.

    Content is where translations change images on average: the mean change of images of one domain minus that of the
    other, as the largest absolute value over the channels, exceeds a share of its maximum. The domain of the content is
    found by variation: a content looks different on everyone who has it, its absence does not. Over decodings of one
    common code with the separate codes of many images of a domain, the deviation is large where that domain's content
    is, and small where only the other's content is missing. A pixel is in the region of a domain if its deviation,
    relative to the largest, is at least half that of the other domain; it is owned by the domain with the larger one.
    Changes and deviations are first averaged over 3x3 pixels; regions are dilated by one pixel, and their edges are
    blurred over 3x3 pixels.

    Args:
        channels: channels of the images.
        image_size: side of the images in pixels.
        dim: length of a separate code.
        share: share of the largest change above which a pixel counts as content.
    """

    regions: Tensor
    owned: Tensor
    mean: Tensor
    typical: Tensor

    def __init__(self, channels: int, image_size: int, dim: int, share: float) -> None:
        super().__init__()
        self.share = share
        shape = (2, 1, image_size, image_size)
        self.register_buffer("regions", torch.zeros(shape))
        self.register_buffer("owned", torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(channels, image_size, image_size))
        self.register_buffer("typical", torch.zeros(2, dim))

    @torch.no_grad()
    def fit(self, change: Tensor, deviations: Tensor, mean: Tensor) -> None:
        """Fit the regions.

        Args:
            change: what translations remove from images of the first domain on average, minus the same for the second,
                [C, H, W].
            deviations: deviations of the decodings for both domains, [2, H, W].
            mean: mean image of both domains, [C, H, W].
        """
        difference = _averaged(change.abs().amax(0)[None, None])
        content = difference > self.share * difference.max()
        relative = _averaged(deviations[:, None])
        relative = relative / relative.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        others = relative.flip(0)
        self.regions.copy_(F.max_pool2d((content & (relative >= others / 2)).float(), 3, 1, 1))
        self.owned.copy_(F.max_pool2d((content & (relative > others)).float(), 3, 1, 1))
        self.mean.copy_(mean)

    def within(self, *domains: int) -> Tensor:
        """Soft mask [1, 1, H, W] of the regions of any of these domains."""
        return _averaged(self.regions[list(domains)].amax(0, keepdim=True))

    def owned_by(self, domain: int) -> Tensor:
        """Soft mask [1, 1, H, W] of the pixels that vary more with the content of this domain."""
        return _averaged(self.owned[domain : domain + 1])

    def overlap(self) -> Tensor:
        """Soft mask [1, 1, H, W] of the intersection of both regions."""
        return _averaged(self.regions.prod(0, keepdim=True))

    def seen_by(self, domain: int, images: Tensor) -> Tensor:
        """Images [N, C, H, W] with the region of the other domain's content replaced by the mean image."""
        return images.lerp(self.mean.to(images), self.owned_by(1 - domain).to(images))


def _averaged(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
