"""The losses of DistanceGAN: distances between images of a domain survive the translation."""

from typing import NamedTuple

import torch
from torch import Tensor


class DistanceStatistics(NamedTuple):
    """Mean and population standard deviation of the distances within a domain.

    Attributes:
        mean: scalar.
        std: scalar.
    """

    mean: Tensor
    std: Tensor


def pair_distances(images: Tensor) -> Tensor:
    """Mean absolute differences of all pairs i < j of images [N, C, H, W], [N (N - 1) / 2]."""
    flat = images.flatten(1)
    return torch.nn.functional.pdist(flat.float(), p=1) / flat.shape[1]


def half_distances(images: Tensor) -> Tensor:
    """Mean absolute differences of the upper and the lower half of every image [N, C, H, W], [N]."""
    height = images.shape[2] // 2
    return (images[:, :, :height] - images[:, :, -height:]).float().abs().mean((1, 2, 3))


def statistics(distances: Tensor) -> DistanceStatistics:
    """Mean and standard deviation of distances [K]."""
    return DistanceStatistics(distances.mean(), distances.std(correction=0))


def l_distance(before: Tensor, after: Tensor, source: DistanceStatistics, target: DistanceStatistics) -> Tensor:
    """How far distances, each counted in the deviations of its own domain, move by a translation.

    Benaim, Wolf, "One-Sided Unsupervised Domain Mapping", NIPS 2017, (3) and (5).

    Args:
        before: distances [K] between images.
        after: the same distances [K] between their translations.
        source: mean and deviation in the images' domain.
        target: mean and deviation in the domain of the translations.

    Returns:
        scalar, the mean over the distances; 0 where all keep their place in the distribution.
    """
    return ((before - source.mean) / source.std - (after - target.mean) / target.std).abs().mean()
