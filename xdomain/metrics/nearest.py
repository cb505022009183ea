"""Nearest-neighbour classification across domains."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xdomain.metrics.base import gather_rows


class NearestNeighbourAccuracy(Metric):
    """Accuracy in [0, 1] of a 1-nearest-neighbour classifier (Euclidean, on pixels).

    The domain-adaptation protocol of Taigman et al. 2017, table 2: the gallery consists of translated source images
    with their source labels, the queries are real target images.

    Args:
        chunk: queries per step; bounds the memory.

    Example:
        >>> metric = NearestNeighbourAccuracy()
        >>> metric.update(torch.tensor([[0.0], [1.0]]), torch.tensor([7, 8]), gallery=True)
        >>> metric.update(torch.tensor([[0.1], [0.9], [0.2]]), torch.tensor([7, 8, 8]), gallery=False)
        >>> metric.compute()
        tensor(0.6667)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    gallery: list[Tensor]
    gallery_labels: list[Tensor]
    queries: list[Tensor]
    query_labels: list[Tensor]

    def __init__(self, chunk: int = 512) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.chunk = chunk
        for name in ("gallery", "gallery_labels", "queries", "query_labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, labels: Tensor, gallery: bool) -> None:
        """Add images [N, ...] with classes [N], as gallery or as queries."""
        (self.gallery if gallery else self.queries).append(images.flatten(1).float())
        (self.gallery_labels if gallery else self.query_labels).append(labels)

    def compute(self) -> Tensor:
        """Share of queries whose nearest gallery image has their class."""
        gallery, labels = dim_zero_cat(self.gallery), dim_zero_cat(self.gallery_labels)
        queries, truth = dim_zero_cat(self.queries), dim_zero_cat(self.query_labels)
        nearest = torch.cat([torch.cdist(part, gallery).argmin(1) for part in torch.split(queries, self.chunk)])
        return (labels[nearest] == truth).float().mean()
