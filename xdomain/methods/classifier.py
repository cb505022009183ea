"""A plain classifier: the helper networks (f of DTN, evaluation classifiers) are recipes of it."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_channels
from xdomain.errors import UserError, refuse
from xdomain.methods.base import Method


class Classifier(Method):
    """Classifies the images of one domain; trained with labels by cross-entropy.

    Args:
        network: classifier with ``in_channels``, ``classes``, ``dim``, ``features(x)`` and logits as its output.
        label_smoothing: share of the target probability that is spread over all classes, in [0, 1).
        options: see :class:`Method`.
    """

    def __init__(self, network: nn.Module, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.network, self.label_smoothing = network, label_smoothing
        self.classes: int = network.classes  # type: ignore[assignment]
        if network.in_channels not in (1, 3):
            refuse(self, "network.in_channels", network.in_channels, "give 1 for grey images or 3 for RGB.")
        self.in_channels: int = network.in_channels  # type: ignore[assignment]

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"c": self.optimizer(self.network.parameters())}

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W] in [-1, 1]; grey and RGB are turned into each other."""
        logits: Tensor = self.network(to_channels(images, self.in_channels))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, C, H, W] in [-1, 1]."""
        features: Tensor = self.network.features(to_channels(images, self.in_channels))  # type: ignore[operator]
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Logits [N, classes] of features [N, dim]."""
        logits: Tensor = self.network.head(features)  # type: ignore[operator]
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, label = batch["a"].image, batch["a"].label
        if label is None:
            raise UserError(f"a classifier needs labels, but {self.domains[0]} has none.")
        loss = self.step("c", lambda: F.cross_entropy(self(x), label, label_smoothing=self.label_smoothing))
        self.log("loss", loss, prog_bar=True)
