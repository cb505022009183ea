"""Base class of classifiers whose features are used elsewhere."""

from torch import Tensor, nn


class FeatureClassifier(nn.Module):
    """Base class of classifiers: ``body`` maps images to features, ``head`` maps features to logits.

    Args:
        body: maps images [N, in_channels, H, W] in [-1, 1] to features [N, dim].
        head: maps features to logits [N, classes].
        in_channels: channels of the images.
        classes: number of logits.
        dim: length of the features.
    """

    def __init__(self, body: nn.Module, head: nn.Module, in_channels: int, classes: int, dim: int) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.in_channels, self.classes, self.dim = in_channels, classes, dim

    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, in_channels, H, W] in [-1, 1]."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes]."""
        logits: Tensor = self.head(self.features(images))
        return logits
