"""Metrics of attributes: whether a translation set the requested ones, and how reliable the classifiers are."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

Z = 1.959963984540054  # 97.5 % of a normal distribution lie below


def wilson_interval(hits: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of the 95 % confidence interval of a share (Wilson 1927); also valid for shares of 0 and 1.

    Args:
        hits: number of hits, any shape.
        n: number of trials, at least 1, same shape.

    Returns:
        lower and upper end in [0, 1].
    """
    share = hits / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)).sqrt()
    # A share of 0 or 1 is itself the end; rounding would leave it outside.
    return torch.minimum(centre - half, share).clamp(min=0), torch.maximum(centre + half, share).clamp(max=1)


def _logits(logits: Tensor, names: Sequence[str]) -> Tensor:
    """One logit per attribute, [N, K]; two of a single attribute are "without" and "with"."""
    if len(names) == 1:
        logits = logits[:, None] if logits.ndim == 1 else logits
        logits = logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits
    if logits.shape[1:] != (len(names),):
        raise ValueError(f"logits {tuple(logits.shape)} are not one for each of {', '.join(names)}")
    return logits


class AttributeHitRate(Metric):
    """Share of images in which a classifier finds the attribute as requested, with its 95 % interval.

    The classifier has one logit per attribute, positive if the image has it, or two logits for two domains. A logit of
    0 or NaN is not a hit.

    Args:
        names: names of the K attributes; one name for a classifier of two domains.

    Example:
        >>> metric = AttributeHitRate(["glasses"])
        >>> metric.update(torch.tensor([[2.0], [-1.0], [0.5], [3.0]]), torch.tensor([[1], [1], [1], [1]]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'hit_rate/glasses': 0.75, 'hit_rate_low/glasses': 0.301, 'hit_rate_high/glasses': 0.954, 'n/glasses': 4}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    hits: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for state in ("hits", "counts"):
            self.add_state(state, default=torch.zeros(len(names), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, wanted: Tensor, counted: Tensor | None = None) -> None:
        """Add translated images.

        Args:
            logits: [N, K]; for a single attribute also [N], or [N, 2] as "without" and "with".
            wanted: requested attributes, 0 and 1, [N, K] or for a single attribute [N].
            counted: which entries count, 0 and 1 like ``wanted``; by default all.
        """
        logits = _logits(logits, self.names)
        asked = wanted.reshape(logits.shape).bool()
        counts = torch.ones_like(asked) if counted is None else counted.reshape(logits.shape).bool()
        self.hits += (torch.where(asked, logits > 0, logits < 0) & counts).sum(0)
        self.counts += counts.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """For each attribute with counted images: ``hit_rate/NAME``, ``hit_rate_low/``, ``hit_rate_high/``, ``n/``."""
        low, high = wilson_interval(self.hits, self.counts)
        values = {}
        for i, name in enumerate(self.names):
            if self.counts[i] > 0:
                values[f"hit_rate/{name}"] = self.hits[i] / self.counts[i]
                values[f"hit_rate_low/{name}"], values[f"hit_rate_high/{name}"] = low[i], high[i]
                values[f"n/{name}"] = self.counts[i].clone()
        return values


class BalancedAccuracy(Metric):
    """Mean of sensitivity and specificity in [0, 1] of attribute classifiers on real images; 0.5 is chance.

    A classifier that always says "without" has an accuracy of 95 % on an attribute that 5 % have, but a balanced
    accuracy of 50 %.

    Args:
        names: names of the K attributes; one name for a classifier of two domains.

    Example:
        >>> metric = BalancedAccuracy(["hat"])
        >>> metric.update(torch.tensor([2.0, -1.0, -3.0, -0.5]), torch.tensor([1, 1, 0, 0]))
        >>> metric.compute()
        {'balanced_accuracy/hat': tensor(0.7500), 'n/hat': tensor(4)}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for state in ("right", "counts"):  # first row: images without the attribute, second row: with
            self.add_state(state, default=torch.zeros(2, len(names), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, truth: Tensor) -> None:
        """Add real images.

        Args:
            logits: [N, K]; for a single attribute also [N], or [N, 2] as "without" and "with".
            truth: 0 and 1, [N, K] or for a single attribute [N].
        """
        logits = _logits(logits, self.names)
        have = truth.reshape(logits.shape).bool()
        self.right += torch.stack([((logits < 0) & ~have).sum(0), ((logits > 0) & have).sum(0)])
        self.counts += torch.stack([(~have).sum(0), have.sum(0)])

    def compute(self) -> dict[str, Tensor]:
        """``balanced_accuracy/NAME``, NaN if all images have the attribute or none has it, and ``n/NAME``."""
        accuracy, n = (self.right / self.counts).mean(0), self.counts.sum(0)
        values: dict[str, Tensor] = {}
        for i, name in enumerate(self.names):
            values |= {f"balanced_accuracy/{name}": accuracy[i], f"n/{name}": n[i]}
        return values
