"""Metrics for models of a single image or a single video: quality, diversity and copying."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.utilities import dim_zero_cat, rank_zero_warn

from xdomain.features.base import Extractor, set_channels
from xdomain.metrics.base import Count, ImageMetric, PairMetric
from xdomain.metrics.distribution import frechet_distance


class SIFID(PairMetric):
    """Single-image FID: Frechet distance between the feature vectors at all positions of two images, mean over pairs.

    Shaham et al. 2019 (SinGAN), section 3. Values depend on the network and layer, which are part of the name: with
    Inception, the paper describes ``sifid@inception-192``, and the authors' code computes ``sifid@inception-64``.
    Values vary strongly between samples: average over many.

    With fewer positions than channels the covariances are singular. The distance is still computed exactly, but depends
    more on the number of positions than on the images; this gives a warning, and an earlier layer helps.

    Args:
        extractor: feature network, applied to the images at their own sizes, which may differ.
        layer: one of its layers.

    Attributes:
        positions: smallest number of positions of an image in the last `compute()`.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = SIFID(build_extractor("random-conv"), "2")
        >>> metric.update(torch.zeros(1, 3, 32, 32), torch.rand(3, 3, 24, 40))
        >>> metric.name, bool(metric.compute() > 0), metric.n, metric.positions
        ('sifid@random-conv/2', True, Count(real=3, fake=3), 240)
    """

    prefix = "sifid"
    dims = 2
    fewest: Tensor
    width: Tensor

    def __init__(self, extractor: Extractor, layer: str) -> None:
        if extractor.dims != self.dims:
            raise ValueError(f"{self.prefix} needs a network for {self.dims} dimensions, not {extractor.name}")
        super().__init__(f"{self.prefix}@{extractor.at(layer)}", extractor)
        self.layer, self.positions = layer, 0
        self.add_state("fewest", torch.tensor(2**62), dist_reduce_fx="min")
        self.add_state("width", torch.tensor(0), dist_reduce_fx="max")

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        gaussians = []
        for images in (real, fake):
            maps = self.extractor.maps(images, self.layer).flatten(2)
            if maps.shape[2] < 2:
                raise ValueError(
                    f"{self.name} needs 2 positions or more, but {tuple(images.shape)} has {maps.shape[2]}"
                )
            self.fewest = self.fewest.clamp(max=maps.shape[2])
            self.width = self.width.clamp(min=maps.shape[1])
            gaussians.append([(x.mean(1), torch.cov(x)) for x in maps.double()])
        reals, fakes = gaussians
        reals = reals * (len(fakes) // len(reals))
        return torch.stack([frechet_distance(*x, *y) for x, y in zip(reals, fakes, strict=True)])

    def compute(self) -> Tensor:
        """Mean over the pairs."""
        value = super().compute()
        self.positions = int(self.fewest)
        if self.fewest < self.width:
            rank_zero_warn(
                f"{self.name} rests on {self.positions} positions for {int(self.width)} channels: use an earlier layer"
            )
        return value


class SVFID(SIFID):
    """Single-video FID: SIFID between two clips [N, C, T, H, W], with every position in space and time as a sample.

    Gur et al. 2020 (HP-VAE-GAN), section 4. The paper's features (an early layer of a C3D trained on Sports-1M) are not
    public in a loadable form, and the layer is not specified: values are not comparable with published ones.

    Example:
        >>> from xdomain.features import build_extractor
        >>> metric = SVFID(build_extractor("random-conv3d"), "1")
        >>> metric.update(torch.zeros(1, 3, 4, 16, 16), torch.rand(2, 3, 4, 16, 16))
        >>> metric.name, bool(metric.compute() > 0), metric.n, metric.positions
        ('svfid@random-conv3d/1', True, Count(real=2, fake=2), 1024)
    """

    prefix = "svfid"
    dims = 3


class PixelDiversity(ImageMetric):
    """Diversity of samples: relative standard deviation of a pixel's grey value over the samples, mean over pixels.

    Shaham et al. 2019 (SinGAN), section 3: divided by the deviation of the grey values within the training image. Both
    are population deviations. 0: all samples are equal. 1: a pixel varies over the samples as much as the pixels within
    the image. For images or videos; all samples must have the same size.

    Example:
        >>> metric = PixelDiversity()
        >>> real = torch.tensor([-0.5, 0.5]).view(1, 1, 1, 2)
        >>> metric.update(real, torch.tensor([-0.25, 0.25]).view(2, 1, 1, 1).expand(-1, -1, 1, 2))
        >>> metric.name, metric.compute(), metric.n
        ('diversity', tensor(0.5000), Count(real=1, fake=2))
    """

    higher_is_better = True
    real_deviation: Tensor
    updates: Tensor
    samples: list[Tensor]

    def __init__(self) -> None:
        super().__init__("diversity")
        self.add_state("real_deviation", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("updates", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("samples", default=[], dist_reduce_fx="cat")

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add samples float [N, C, H, W] or [N, C, T, H, W] in [-1, 1] of a model of the image [1, C, ...]."""
        if len(real) != 1:
            raise ValueError(f"{self.name} is about samples of one image, not of {len(real)}")
        self.real_deviation += _grey(real).double().std(correction=0)
        self.updates += 1
        self.samples.append(_grey(fake))

    def compute(self) -> Tensor:
        """Mean deviation over the samples divided by the deviation within the image."""
        samples = dim_zero_cat(self.samples) if len(self.samples) else torch.zeros(0)
        self.n = Count(int(self.updates > 0), len(samples))
        if len(samples) < 2 or not self.real_deviation > 0:
            raise ValueError(f"{self.name} needs 2 samples of an image that is not flat, not {len(samples)}")
        return (samples.double().std(0, correction=0).mean() * self.updates / self.real_deviation).float()


def _grey(images: Tensor) -> Tensor:
    return set_channels(images.float().clamp(-1.0, 1.0), 1)


class PatchCopyRate(PairMetric):
    """Share of a sample's patches that are nearly identical in the real image; in [0, 1], mean over the samples.

    A patch counts as copied if the nearest patch of the real image, over all positions, is closer than `threshold`
    (root of the mean squared difference). It is 1 for the image itself and for any rearrangement of blocks much larger
    than the patch, and near 0 for noise. Flat areas always count: compare with the rate of another real image.

    Args:
        patch: side of the patches in pixels; about a quarter of the image detects copied structure, smaller patches
            only copied texture.
        threshold: largest distance of a copy, in units of the range [-1, 1].
        stride: step between the patches of the sample; half of `patch` by default. The real image's step is 1.
        chunk: patches of the sample per step; bounds the memory.

    Example:
        >>> metric = PatchCopyRate(patch=5)
        >>> image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        >>> metric.update(image, torch.cat([image, -image]))
        >>> metric.name, metric.compute(), metric.n
        ('copied-5px', tensor(0.5000), Count(real=2, fake=2))
    """

    def __init__(self, patch: int = 11, threshold: float = 0.1, stride: int | None = None, chunk: int = 256) -> None:
        super().__init__(f"copied-{patch}px")
        self.patch, self.threshold, self.chunk = patch, threshold, chunk
        self.stride = stride or max(1, patch // 2)

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        for images in (real, fake):
            if images.ndim != 4 or min(images.shape[2:]) < self.patch:
                raise ValueError(f"{self.name} needs images of at least {self.patch} pixels, not {tuple(images.shape)}")
        channels = max(real.shape[1], fake.shape[1])
        real, fake = (set_channels(images.float().clamp(-1.0, 1.0), channels) for images in (real, fake))
        bound = self.threshold * (channels * self.patch**2) ** 0.5
        rates = []
        for x, y in zip(real.expand(len(fake), -1, -1, -1), fake, strict=True):
            gallery = F.unfold(x[None], self.patch)[0].T.contiguous()
            queries = F.unfold(y[None], self.patch, stride=self.stride)[0].T
            nearest = torch.cat([torch.cdist(part, gallery).amin(1) for part in torch.split(queries, self.chunk)])
            rates.append((nearest < bound).double().mean())
        return torch.stack(rates)
