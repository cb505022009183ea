"""The projection heads of CUT."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.resnet_generator import init_gan


class PatchSampler(nn.Module):
    """Features of random places of feature maps, each map through a two-layer perceptron of its own, to unit length.

    Park, Efros, Zhang, Zhu, ECCV 2020: the network H. For the maps of CUT's generator with the default width it has
    560,384 parameters.

    Args:
        channels: of every map.
        width: length of the features.
        patches: number of places in every map; all where there are fewer.
    """

    def __init__(self, channels: Sequence[int], width: int = 256, patches: int = 256) -> None:
        super().__init__()
        self.patches = patches
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(before, width), nn.ReLU(), nn.Linear(width, width)) for before in channels
        )
        init_gan(self, xavier=True)

    def draw(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Random places of every map, int64 [S], the same for all images of the batch."""
        sizes = [x.shape[2] * x.shape[3] for x in maps]
        return [torch.randperm(size, device=x.device)[: self.patches] for size, x in zip(sizes, maps, strict=True)]

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Features [N, S, width] of maps [N, C, H, W] at places [S]."""
        features = []
        for head, x, at in zip(self.heads, maps, places, strict=True):
            features.append(F.normalize(head(x.flatten(2)[:, :, at].transpose(1, 2)), dim=2))
        return features
