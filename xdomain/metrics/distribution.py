"""Distances between the distributions of real and generated images, on features of an exchangeable network.

Report KID first: it is unbiased for any number of images, whereas FID decreases with this number and can only be
compared at equal ones.
"""

import math

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from xdomain.features.base import Extractor
from xdomain.metrics.base import Count, ImageMetric


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> Tensor:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, in float64; never below zero.

    ``|mu1 - mu2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2))``, Dowson and Landau 1982. With ``cov = f f^T``, the trace
    of the root is the sum of the singular values of ``f1^T f2``. This needs no root of a non-symmetric matrix and does
    not lose half the digits for singular covariances.

    Args:
        mu1: mean [D].
        cov1: covariance [D, D]; may be singular.
        mu2: mean [D].
        cov2: covariance [D, D].

    Returns:
        Scalar.

    Example:
        >>> one = torch.eye(2)
        >>> frechet_distance(torch.zeros(2), one, torch.ones(2), 4 * one)  # |1|^2 + 2 (2 - 1)^2
        tensor(4., dtype=torch.float64)
    """
    shift: Tensor = (mu1.double() - mu2.double()).square().sum()
    traces = cov1.double().trace() + cov2.double().trace()
    cross = torch.linalg.svdvals(_factor(cov1).T @ _factor(cov2)).sum()
    return torch.clamp(shift + traces - 2 * cross, min=0)


def _factor(cov: Tensor) -> Tensor:
    """A matrix f [D, rank] with ``cov = f f^T``, without directions that contain only rounding errors."""
    values, vectors = torch.linalg.eigh(cov.double())
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    factor: Tensor = vectors[:, kept] * values[kept].sqrt()
    return factor


class FID(ImageMetric):
    """Frechet distance of the Gaussians fitted to features of real and of generated images.

    Heusel et al. 2017. Biased upwards by about dim / n, so values are comparable only at equal n; see :class:`KID`.
    With fewer images than dimensions the covariances are singular, which is handled.

    Args:
        extractor: feature network.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = FID(build_extractor("random-conv"))
        >>> metric.update(torch.rand(8, 3, 16, 16) - 1, real=True)
        >>> metric.update(torch.rand(6, 3, 16, 16), real=False)
        >>> metric.name, bool(metric.compute() > 0), metric.n
        ('fid@random-conv', True, Count(real=8, fake=6))
    """

    real_n: Tensor
    fake_n: Tensor

    def __init__(self, extractor: Extractor) -> None:
        super().__init__(f"fid@{extractor.name}", extractor)
        for side in ("real", "fake"):
            self.add_state(f"{side}_n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            for moment in (1, 2):  # float64: the covariance is a difference of these
                zeros = torch.zeros([extractor.dim] * moment, dtype=torch.float64)
                self.add_state(f"{side}_moment{moment}", zeros, dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images float [N, C, H, W] in [-1, 1], or features [N, dim] of them by the extractor."""
        features = (images if images.ndim == 2 else self.extractor.features(images)).double()
        side = "real" if real else "fake"
        for name, value in (("n", len(features)), ("moment1", features.sum(0)), ("moment2", features.T @ features)):
            setattr(self, f"{side}_{name}", getattr(self, f"{side}_{name}") + value)

    def compute(self) -> Tensor:
        """The distance."""
        self.n = Count(int(self.real_n), int(self.fake_n))
        if min(self.n) < 2:
            raise ValueError(f"{self.name} needs 2 real and 2 generated images, not {self.n.real} and {self.n.fake}")
        return frechet_distance(*self._gaussian("real"), *self._gaussian("fake")).float()

    def _gaussian(self, side: str) -> tuple[Tensor, Tensor]:
        n, first, second = (getattr(self, f"{side}_{name}") for name in ("n", "moment1", "moment2"))
        mean = first / n
        return mean, (second - n * mean.outer(mean)) / (n - 1)


def _rows(state: list[Tensor] | Tensor) -> Tensor:
    """A list state as float64 [N, D]; after synchronisation it is already a tensor."""
    return dim_zero_cat(state).double() if len(state) else torch.zeros(0, 1, dtype=torch.float64)


def _in_fixed_order(rows: Tensor) -> Tensor:
    """Sort rows [N, D] by their projection on a fixed vector, so that subsets do not depend on the order of arrival."""
    direction = torch.cos(torch.arange(rows.shape[1], dtype=torch.float64, device=rows.device))
    return rows[(rows * direction).sum(1).argsort(stable=True)]


class KID(ImageMetric):
    """Squared maximum mean discrepancy with the kernel ``(x y / dim + 1)^3``: unbiased, may be negative.

    Binkowski et al. 2018: mean and standard deviation over random subsets. The value is the plain estimate (x 1);
    papers usually print 100 or 1000 times that. A set compared with itself gives slightly less than 0, since pairs of
    an image with itself count across the sets but not within. The subsets are drawn by a separate generator and depend
    neither on the order of the images nor on the number of processes. Time grows with the square of n.

    Args:
        extractor: feature network.
        subsets: number of subsets.
        subset_size: number of images of either kind in a subset. By default 1000, as in the paper, or half of the
            smaller set if that is less (subsets of all images would be equal, with deviation 0).
        chunk: rows of the kernel matrix per step; bounds the memory.

    Attributes:
        used_subset_size: images per subset in the last `compute()`.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = KID(build_extractor("random-conv"))
        >>> metric.update(torch.rand(8, 3, 16, 16) - 1, real=True)
        >>> metric.update(torch.rand(6, 3, 16, 16), real=False)
        >>> mean, std = metric.compute()
        >>> metric.name, bool(mean > 0), metric.n, metric.used_subset_size
        ('kid@random-conv', True, Count(real=8, fake=6), 3)
    """

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(
        self, extractor: Extractor, subsets: int = 100, subset_size: int | None = None, chunk: int = 1024
    ) -> None:
        super().__init__(f"kid@{extractor.name}", extractor)
        self.subsets, self.subset_size, self.chunk = subsets, subset_size, chunk
        self.used_subset_size = 0
        for side in ("real", "fake"):
            self.add_state(side, default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images float [N, C, H, W] in [-1, 1], or features [N, dim] of them by the extractor."""
        features = images if images.ndim == 2 else self.extractor.features(images)
        (self.real if real else self.fake).append(features)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the subsets."""
        x, y = _rows(self.real), _rows(self.fake)
        self.n = Count(len(x), len(y))
        smaller = min(self.n)
        size = self.subset_size or min(1000, max(2, smaller // 2))
        if not 2 <= size <= smaller:
            raise ValueError(
                f"{self.name}: subset_size {size} does not fit {self.n.real} real and {self.n.fake} generated images; "
                "it must be at least 2 and no more than either"
            )
        self.used_subset_size = size
        x, y = _in_fixed_order(x), _in_fixed_order(y)
        generator = torch.Generator().manual_seed(0)
        in_x, in_y = (_choose(self.subsets, size, len(part), generator).to(part.device) for part in (x, y))
        within = self._sums(x, x, in_x, in_x) - in_x @ _kernel((x * x).sum(1), x.shape[1])
        within = within + self._sums(y, y, in_y, in_y) - in_y @ _kernel((y * y).sum(1), y.shape[1])
        values = within / (size * (size - 1)) - 2 * self._sums(x, y, in_x, in_y) / size**2
        return values.mean().float(), values.std(correction=0).float()

    def _sums(self, x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
        """For every subset the sum of the kernel over its pairs, [subsets].

        The kernel of all images is computed once; computing it per subset would repeat most of it 100 times.
        """
        parts = zip(torch.split(x, self.chunk), torch.split(in_x, self.chunk, dim=1), strict=True)
        return torch.stack([((chosen @ _kernel(part @ y.T, x.shape[1])) * in_y).sum(1) for part, chosen in parts]).sum(
            0
        )


def _kernel(products: Tensor, dim: int) -> Tensor:
    return (products / dim + 1) ** 3


def _choose(subsets: int, size: int, n: int, generator: torch.Generator) -> Tensor:
    """Membership in random subsets without repetition: float64 [subsets, n] of 0 and 1 with `size` ones in a row."""
    chosen = torch.rand(subsets, n, generator=generator).argsort(1)[:, :size]
    return torch.zeros(subsets, n, dtype=torch.float64).scatter_(1, chosen, 1.0)


class InceptionScore(ImageMetric):
    """``exp(mean KL(p(class | image) || p(class)))`` of generated images: from 1 to the number of classes.

    Salimans et al. 2016: mean and standard deviation over parts of the images. It uses no real images and is not
    meaningful for images outside of the network's classes.

    Args:
        extractor: feature network that is a classifier.
        splits: number of parts.

    Example:
        >>> from xdomain.features.classifier import ClassifierExtractor
        >>> from xdomain.networks import HalfResolutionClassifier
        >>> metric = InceptionScore(ClassifierExtractor(HalfResolutionClassifier(), "toy"), splits=2)
        >>> metric.update(torch.rand(8, 3, 32, 32))
        >>> mean, std = metric.compute()
        >>> metric.name, bool(1 <= mean <= 10), metric.n
        ('is@toy', True, Count(real=0, fake=8))
    """

    higher_is_better = True
    logits: list[Tensor]

    def __init__(self, extractor: Extractor, splits: int = 10) -> None:
        super().__init__(f"is@{extractor.name}", extractor)
        self.splits = splits
        self.add_state("logits", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor) -> None:
        """Add generated images float [N, C, H, W] in [-1, 1]."""
        self.logits.append(self.extractor.logits(images))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the parts."""
        logits = _rows(self.logits)
        n = len(logits)
        self.n = Count(0, n)
        if n < self.splits:
            raise ValueError(f"{self.name}: {n} images cannot be cut into {self.splits} parts")
        logits = _in_fixed_order(logits)[
            torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(logits.device)
        ]
        scores = []
        for part in logits.tensor_split(self.splits):
            log_p = part.log_softmax(1)
            log_marginal = log_p.logsumexp(0) - math.log(len(part))
            scores.append((log_p.exp() * (log_p - log_marginal)).sum(1).mean().exp())
        values = torch.stack(scores)
        return values.mean().float(), values.std(correction=0).float()
