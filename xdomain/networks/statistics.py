"""Statistics of codes and images that are fitted in closed form rather than trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
