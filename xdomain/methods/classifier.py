"""A plain classifier. Recipes of it train the helper networks: f of DTN and the evaluation classifiers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_channels, to_float
from xdomain.errors import UserError, refuse
from xdomain.methods.base import Method


class Classifier(Method):
    """Classifies the images of one domain; trained with labels by cross-entropy.

    Args:
        network: classifier with ``in_channels``, ``classes``, ``dim``, ``features(x)`` and logits as its output.
        label_smoothing: share of the target probability spread over all classes, in [0, 1).
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
        """Logits [N, classes] of images [N, C, H, W] in [-1, 1]; grey and RGB images are converted as needed."""
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

    def on_fit_start(self) -> None:
        """Before the first batch, refuse a network that does not fit the images or their labels."""
        data = self.data.data("a", "train")
        if data.labels is None:
            raise UserError(f"a classifier needs labels, but {self.domains[0]} has none.")
        if not 0 <= data.labels.min() <= data.labels.max() < self.classes:
            found = f"{self.domains[0]} has labels from {data.labels.min()} to {data.labels.max()}"
            refuse(self, "network.classes", self.classes, f", but {found}: give {data.labels.max() + 1}.")
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                self(to_float(data.__getitems__([0]).image.to(self.device)))
        except RuntimeError:
            size, kind = self.image_size, type(self.network).__name__
            way = f", which does not take images of {size}x{size} pixels: give the data another image_size"
            refuse(self, "network", kind, f"{way}, or another network, such as AttributeNet with image_size {size}.")
        finally:
            self.train(training)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, label = batch["a"].image, batch["a"].label
        if label is None:
            raise UserError(f"a classifier needs labels, but {self.domains[0]} has none.")
        self.log("loss", self.step("c", lambda: self.classification_loss(x, label)), prog_bar=True)

    def classification_loss(self, images: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of images [N, C, H, W] and their classes [N]."""
        return F.cross_entropy(self(images), label, label_smoothing=self.label_smoothing)
