"""Features of this package's classifiers."""

from pathlib import Path
from typing import Any

import torch  # noqa: F401 - for the example
from torch import Tensor, nn

from xdomain.features.base import HookedExtractor


class ClassifierExtractor(HookedExtractor):
    """Features of a classifier of this package, given by a recipe, a checkpoint or as a network.

    Args:
        classifier: an :class:`xdomain.features.helpers.Helper`, whose weights may be loaded later by :meth:`fetch`, or
            a network with `features(images)`, `dim` and `in_channels`.
        name: see :class:`Extractor`.

    Example:
        >>> from xdomain.networks import HalfResolutionClassifier
        >>> network = ClassifierExtractor(HalfResolutionClassifier(in_channels=1), "toy")
        >>> images = torch.zeros(2, 3, 32, 32)
        >>> network.features(images).shape, network.maps(images, "body.3").shape
        (torch.Size([2, 128]), torch.Size([2, 32, 16, 16]))
    """

    def __init__(self, classifier: nn.Module, name: str) -> None:
        network = classifier.network if hasattr(classifier, "fetch") else classifier
        missing = [n for n in ("features", "dim", "in_channels") if not hasattr(network, n)]
        if missing or not isinstance(network, nn.Module):
            raise ValueError(f"{type(network).__name__} has no {' and no '.join(missing)}: it is no classifier")
        super().__init__(name, network, lambda images: images)
        self.classifier = classifier
        self.dim, self.channels = int(network.dim), int(network.in_channels)  # type: ignore[arg-type]
        self.freeze()

    def fetch(self, strategy: Any, root: Path | None = None) -> None:
        if hasattr(self.classifier, "fetch"):
            self.classifier.fetch(strategy, root)  # type: ignore[operator]

    def _prepared(self, images: Tensor) -> Tensor:
        if not bool(getattr(self.classifier, "ready", True)):
            raise RuntimeError(f"{self.name} has no weights yet: call fetch() first")
        return super()._prepared(images)

    def vectors(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.network.features(images)  # type: ignore[operator]
        return vectors

    def scores(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)
        return scores
