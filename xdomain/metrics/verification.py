"""Metrics of identity: verification by features, and whether a translation still shows its source."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xdomain.metrics.base import gather_rows

CHUNK = 65536  # pairs per step: 33 MB for features of length 128
ROWS = 1024  # translations per step


class VerificationAUC(Metric):
    """Area under the ROC curve of the cosine similarity, for pairs of images of the same or different identities.

    1 is perfect, 0.5 is chance. It is the probability that a pair of the same identity is more similar than a pair of
    different ones; equal similarities count one half.

    Args:
        max_pairs: largest number of pairs of either kind; if there are more, this many are drawn with replacement,
            always the same.

    Example:
        >>> metric = VerificationAUC()
        >>> metric.update(torch.tensor([[1.0, 0.0], [0.8, 0.4], [0.0, 1.0], [0.8, 0.9]]), torch.tensor([5, 5, 6, 6]))
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
        {'auc': 0.75, 'same': 2, 'different': 4, 'n': 4}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    features: list[Tensor]
    identities: list[Tensor]

    def __init__(self, max_pairs: int = 500_000) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.max_pairs = max_pairs
        self.add_state("features", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, identities: Tensor) -> None:
        """Add features [N, d] of images with their identities, integers [N]."""
        self.features.append(features.float())
        self.identities.append(identities)

    def compute(self) -> dict[str, Tensor]:
        """The area and the numbers behind it.

        Returns:
            ``auc`` in [0, 1], NaN if one kind of pairs is missing or a feature is not finite; ``same`` and
            ``different``, the numbers of pairs; ``n``, the number of images.
        """
        identities, order = dim_zero_cat(self.identities).sort(stable=True)
        features = F.normalize(dim_zero_cat(self.features)[order])
        n = len(features)
        _, group, sizes = torch.unique_consecutive(identities, return_inverse=True, return_counts=True)
        size = sizes[group]
        first = (sizes.cumsum(0) - sizes)[group]  # of the images with the same identity, which are adjacent

        generator = torch.Generator().manual_seed(0)
        i, step = self._draw(size - 1, generator)
        j = first[i] + step
        same = self._similarities(features, i, j + (j >= i))
        i, step = self._draw(n - size, generator)
        different = self._similarities(features, i, step + size[i] * (step >= first[i])).sort().values
        below = torch.searchsorted(different, same) + torch.searchsorted(different, same, right=True)
        area = below.sum() / (2 * len(same) * len(different) or torch.nan)
        return {
            # NaN would be sorted above every similarity and count as the best one.
            "auc": torch.where(torch.isfinite(features).all(), area, torch.nan),
            "same": self._compared(size - 1),
            "different": self._compared(n - size),
            "n": torch.tensor(n, device=size.device),
        }

    def _compared(self, partners: Tensor) -> Tensor:
        return (partners.sum() // 2).clamp(max=self.max_pairs)

    def _draw(self, partners: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pairs of an image i and the k-th of its partners, int64 [P] each.

        All pairs, in both orders, if there are few enough, else random pairs.

        Args:
            partners: number of partners of every image, int64 [N].
            generator: random generator.
        """
        ends = partners.cumsum(0)
        total = int(ends[-1])
        if total <= 2 * self.max_pairs:
            pair = torch.arange(total, device=ends.device)
        else:
            pair = torch.randint(total, (self.max_pairs,), generator=generator).to(ends.device)
        i = torch.searchsorted(ends, pair, right=True)
        return i, pair - (ends - partners)[i]

    def _similarities(self, features: Tensor, i: Tensor, j: Tensor) -> Tensor:
        parts = zip(torch.split(i, CHUNK), torch.split(j, CHUNK), strict=True)
        return torch.cat([(features[a] * features[b]).sum(1) for a, b in parts])


class IdentitySimilarity(Metric):
    """Mean cosine similarity in [-1, 1] between the features of translations and of their sources.

    Example:
        >>> metric = IdentitySimilarity()
        >>> metric.update(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
        >>> metric.compute()
        {'source': tensor(0.5000), 'n': tensor(2)}
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", default=torch.zeros(2), dist_reduce_fx="sum")
        self.add_state("counts", default=torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, source: Tensor, reference: Tensor | None = None) -> None:
        """Add features [N, d] of outputs, of their sources and, if known, of the true results."""
        for i, other in enumerate((source, reference)):
            if other is not None:
                if output.shape != other.shape:
                    raise ValueError(f"features {tuple(output.shape)} and {tuple(other.shape)} differ in shape")
                self.sums[i] += F.cosine_similarity(output.float(), other.float()).sum()
                self.counts[i] += len(output)

    def compute(self) -> dict[str, Tensor]:
        """Mean similarity to ``source`` with ``n``, and to ``reference`` with ``n_reference`` if there are any."""
        means = self.sums / self.counts
        values = {"source": means[0], "n": self.counts[0].clone()}
        if self.counts[1] > 0:
            values |= {"reference": means[1], "n_reference": self.counts[1].clone()}
        return values


class IdentificationRate(Metric):
    """Share in [0, 1] of translations whose own source is the nearest of all sources, by cosine similarity (rank 1).

    A source at the same distance as another does not count as the nearest, so that constant features have 0. The rate
    of strangers is one over the number of sources. With every translation can go whether it is right in some other
    respect; the share of those that are both is the rate of translations that are of any use.

    Args:
        respects: names of these other respects.

    Example:
        >>> metric = IdentificationRate(["removed"])
        >>> sources, outputs = torch.eye(3), torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
        >>> metric.update(outputs, sources, torch.tensor([7, 8, 9]), torch.tensor([[True], [True], [False]]))
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
        {'identified': 0.6667, 'removed_identified': 0.3333, 'sources': 3, 'n': 3}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    outputs: list[Tensor]
    sources: list[Tensor]
    numbers: list[Tensor]
    right: list[Tensor]

    def __init__(self, respects: Sequence[str] = ()) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.respects = tuple(respects)
        for name in ("outputs", "sources", "numbers", "right"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, sources: Tensor, numbers: Tensor, right: Tensor) -> None:
        """Add translations.

        Args:
            outputs: features [N, d] of translations.
            sources: features [N, d] of their sources.
            numbers: int64 [N]: the same for the same source.
            right: bool [N, R]: whether a translation is right in each of the respects.
        """
        if outputs.shape != sources.shape:
            raise ValueError(f"features {tuple(outputs.shape)} and {tuple(sources.shape)} differ in shape")
        self.outputs.append(outputs.float())
        self.sources.append(sources.float())
        self.numbers.append(numbers.to(outputs.device))
        self.right.append(right.to(outputs.device))

    def compute(self) -> dict[str, Tensor]:
        """``identified``, ``RESPECT_identified`` for each respect, and the numbers of ``sources`` and outputs ``n``."""
        numbers, right = dim_zero_cat(self.numbers), dim_zero_cat(self.right)
        outputs, sources = (F.normalize(dim_zero_cat(part)) for part in (self.outputs, self.sources))
        known, place = torch.unique(numbers, return_inverse=True)
        gallery = sources.new_zeros(len(known), sources.shape[1])
        gallery[place] = sources  # images that stand for one source have the same features
        found = []
        for part, own in zip(torch.split(outputs, ROWS), torch.split(place, ROWS), strict=True):
            similar = part @ gallery.T
            mine = similar.gather(1, own[:, None])[:, 0]
            others = similar.scatter(1, own[:, None], -torch.inf).amax(1)
            found.append(mine > others)
        identified = torch.cat(found)
        values = {"identified": identified.float().mean()}
        for i, name in enumerate(self.respects):
            values[f"{name}_identified"] = (identified & right[:, i]).float().mean()
        return values | {"sources": torch.tensor(len(known)), "n": torch.tensor(len(identified))}
