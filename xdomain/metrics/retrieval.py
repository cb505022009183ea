"""Ranks of true matches among distractors."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xdomain.metrics.base import gather_rows

TIE = 1e-12  # cosines that differ by less are equal up to rounding in float64


class RetrievalRanks(Metric):
    """Rank of a query's true match in a large gallery, by cosine similarity.

    The protocol of Taigman et al. 2017, table 4: a query is the feature of an emoji, its match the feature of another
    photo of the same person. The gallery of a query consists of all distractors and its own match, not the matches of
    other queries. The rank is 1 + the number of distractors that are closer to the query than the match; a distractor
    at the same distance counts one half, so that constant features get the rank of chance and not the first. A NaN
    feature gives the last rank.

    Args:
        chunk: distractors per step; bounds the memory.

    Example:
        >>> metric = RetrievalRanks()
        >>> metric.update_gallery(torch.tensor([[0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]]))
        >>> metric.update_queries(torch.tensor([[1.0, 0.0], [1.0, 0.2]]), torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'median_rank': 1.5, 'mean_rank': 1.5, 'rank_1': 0.5, 'rank_5': 1.0, 'gallery': 4, 'n': 2}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    distractors: list[Tensor] | Tensor
    queries: list[Tensor]
    targets: list[Tensor]

    def __init__(self, chunk: int = 2048) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.chunk = chunk
        for name in ("distractors", "queries", "targets"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, targets: Tensor | None = None) -> None:
        """Add features [N, d]: of queries if their true matches [N, d] are given, else of distractors."""
        if targets is None:
            assert isinstance(self.distractors, list)
            self.distractors.append(features.float())
        elif features.shape != targets.shape:
            raise ValueError(f"queries {tuple(features.shape)} and matches {tuple(targets.shape)} differ in shape")
        else:
            self.queries.append(features.float())
            self.targets.append(targets.float())

    def update_gallery(self, features: Tensor) -> None:
        """Add distractors [N, d]."""
        self.update(features)

    def update_queries(self, features: Tensor, targets: Tensor) -> None:
        """Add queries [N, d], each with its own true match [N, d]."""
        self.update(features, targets)

    def compute(self) -> dict[str, Tensor]:
        """Summary of the ranks.

        Returns:
            ``median_rank`` and ``mean_rank``, ``rank_1`` and ``rank_5`` (shares in [0, 1] of ranks up to 1 and 5),
            ``gallery`` (its size for one query, with the match) and ``n`` (queries).

        Raises:
            ValueError: without a query or without a distractor.
        """
        # After a reduction over ranks it is one tensor. The list is not joined, which would hold the gallery twice.
        parts = self.distractors if isinstance(self.distractors, list) else [self.distractors]
        size = sum(len(part) for part in parts)
        if size == 0:
            raise ValueError("every match has rank 1 among no distractors: call update_gallery first")
        queries = F.normalize(dim_zero_cat(self.queries).double())
        targets = F.normalize(dim_zero_cat(self.targets).double())
        own = (queries * targets).sum(1)
        farther, tied = torch.zeros_like(own), torch.zeros_like(own)
        for part in parts:
            for few in torch.split(part, self.chunk):
                for at in range(0, len(queries), self.chunk):
                    some = slice(at, at + self.chunk)
                    ahead = queries[some] @ F.normalize(few.double()).T
                    ahead -= own[some, None]
                    farther[some] += (ahead < -TIE).sum(1)
                    tied[some] += (ahead.abs() <= TIE).sum(1)
        ranks = (1 + size - farther - tied / 2).float()
        return {
            "median_rank": ranks.quantile(0.5),
            "mean_rank": ranks.mean(),
            "rank_1": (ranks <= 1).float().mean(),
            "rank_5": (ranks <= 5).float().mean(),
            "gallery": torch.tensor(size + 1, device=ranks.device),
            "n": torch.tensor(len(ranks), device=ranks.device),
        }
