"""Base class of classifiers that adapt to another domain."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import Batch, Sample, to_channels
from xdomain.errors import UserError
from xdomain.methods.classifier import Classifier

DiscriminatorFactory = Callable[[int], nn.Module]
"""Makes the classifier of domains d from the length of what it sees."""


class AdaptationMethod(Classifier):
    """Base class of unsupervised domain adaptation: a classifier of domain b, learned with the labels of a alone.

    Updates see labelled images of the first domain and images of the second. Labels of the second serve evaluations
    only.

    Args:
        network: see :class:`xdomain.methods.classifier.Classifier`; its ``features`` are f, its ``head`` is c.
        options: see :class:`xdomain.methods.classifier.Classifier`.
    """

    def __init__(self, network: nn.Module, **options: Any) -> None:
        super().__init__(network, **options)
        if len(self.domains) != 2:
            kind, count = type(self).__name__, len(self.domains)
            raise UserError(f"{kind} adapts from one domain to another, but the data has {count}: use a pair.")

    # What a method may change

    def network_of(self, role: str) -> nn.Module:
        """The network that classifies images of a role."""
        return self.network

    def judged(self, images: Tensor, role: str) -> Tensor:
        """What d sees, [N, length], of images [N, C, H, W] in [-1, 1] of a role."""
        return self.features(images)

    # For updates

    def features_of_both(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of both domains in one pass: a BatchNorm has the statistics of the mixture, as in evaluation."""
        x_a, x_b = (to_channels(batch[role].image, self.in_channels) for role in "ab")
        h = self.features(torch.cat([x_a, x_b]))
        return h[: len(x_a)], h[len(x_a) :]

    def l_class(self, logits: Tensor, sample: Sample) -> Tensor:
        """Cross-entropy of logits [N, classes] with the labels of images of the first domain."""
        assert sample.label is not None
        return F.cross_entropy(logits, sample.label, label_smoothing=self.label_smoothing)

    def log_d_accuracy(self, logits_a: Tensor, logits_b: Tensor) -> None:
        """Log the share of images whose domain d gets right; 0.5 if it cannot tell."""
        self.log("d_accuracy", torch.cat([logits_a < 0, logits_b > 0]).float().mean())
