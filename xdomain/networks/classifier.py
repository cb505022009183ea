"""What all classifiers share whose features others use."""

from torch import Tensor, nn


class FeatureClassifier(nn.Module):
    """Base of classifiers: ``body`` makes features of images, ``head`` makes logits of features.

    Args:
        body: images [N, in_channels, H, W] in [-1, 1] to features [N, dim].
        head: features to logits [N, classes].
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
