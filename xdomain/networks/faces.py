"""Networks for faces: an identity embedder and an attribute classifier."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.classifier import FeatureClassifier


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def _check_size(image_size: int, halvings: int) -> None:
    if image_size % (1 << halvings) or image_size < 1 << halvings:
        nearest = max(1, round(image_size / (1 << halvings))) << halvings
        raise ValueError(
            f"image_size is {image_size}, but must be a multiple of {1 << halvings}: the nearest is {nearest}"
        )


class Sphere(nn.Module):
    """Scales vectors [N, dim] to length sqrt(dim), so that a typical coordinate is 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [N, dim] of that length."""
        return F.normalize(vectors).mul(vectors.shape[1] ** 0.5)


class CosineHead(nn.Module):
    """Scaled cosines between vectors and one learned direction per class.

    Wang et al., "NormFace", ACM MM 2017: with cross-entropy on identities they train the cosine that retrieval and
    verification use.

    Args:
        dim: length of the vectors.
        classes: number of directions.
        scale: factor of the cosines.
    """

    def __init__(self, dim: int, classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.directions = nn.Parameter(torch.randn(classes, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [N, classes] in [-scale, scale] of vectors [N, dim]."""
        return self.scale * F.linear(F.normalize(vectors), F.normalize(self.directions))


class Whitening(nn.Module):
    """Weights the directions of vectors [N, dim] by how well they tell identities apart, then :class:`Sphere`.

    Fitted to features of several images per person: the covariance within a person becomes the identity, the covariance
    between people diagonal with entries lambda. A direction then gets its weight in the log-likelihood ratio of "the
    same person" and "two people" under Gaussians (Ioffe, "Probabilistic Linear Discriminant Analysis", ECCV 2006):
    lambda / (1 + 2 lambda), as a square root on each side of the cosine. Before :meth:`fit` all directions are
    unchanged.

    Args:
        dim: length of the vectors.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))
        self.sphere = Sphere()

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Fit the weights to vectors [people, images, dim], with at least two images per person."""
        count = vectors.shape[1]
        vectors = vectors.double()
        people = vectors.mean(1)
        mean = people.mean(0)
        rest = (vectors - people[:, None]).flatten(0, 1)
        within = rest.T @ rest / (len(people) * (count - 1))
        between = (people - mean).T @ (people - mean) / (len(people) - 1) - within / count
        floor = 1e-4 * within.diagonal().mean().clamp_min(1e-6)  # a direction without any variance has no noise either
        values, axes = torch.linalg.eigh(
            within + floor * torch.eye(len(mean), dtype=within.dtype, device=within.device)
        )
        white = axes / values.sqrt()
        values, axes = torch.linalg.eigh(white.T @ between @ white)
        signal = values.clamp_min(0)
        self.mean.copy_(mean)
        self.matrix.copy_(white @ axes * (signal / (1 + 2 * signal)).sqrt())

    def forward(self, vectors: Tensor) -> Tensor:
        """Weighted vectors [N, dim] of length sqrt(dim)."""
        weighted: Tensor = self.sphere((vectors.float() - self.mean) @ self.matrix)
        return weighted


class FaceEmbedder(FeatureClassifier):
    """Maps a face to a point on a sphere, close to those of the same person and far from all others.

    Convolutions with BatchNorm and ReLU down to a sixteenth of the size, one over the remaining map, BatchNorm,
    :class:`Sphere`, :class:`Whitening`, :class:`CosineHead`.

    Args:
        in_channels: channels of the images.
        classes: number of identities in the training images.
        image_size: height and width in pixels, a multiple of 16.
        width: channels after the first convolution; 2, 4, 4 and 8 times as many follow.
        dim: length of the features.
        scale: factor of the cosines in the logits.
        dropout: probability of dropping a channel before the last convolution.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 1000,
        image_size: int = 64,
        width: int = 24,
        dim: int = 128,
        scale: float = 24.0,
        dropout: float = 0.0,
    ) -> None:
        _check_size(image_size, 4)
        body = nn.Sequential(
            *_conv(in_channels, width, 5, 2),
            *_conv(width, 2 * width, 3, 2),
            *_conv(2 * width, 4 * width, 3, 2),
            *_conv(4 * width, 4 * width),
            *_conv(4 * width, 8 * width, 3, 2),
            nn.Dropout2d(dropout),
            nn.Conv2d(8 * width, dim, image_size // 16, bias=False),
            nn.BatchNorm2d(dim),
            nn.Flatten(),
            Sphere(),
        )
        super().__init__(body, CosineHead(dim, classes, scale), in_channels, classes, dim)
        self.whitening = Whitening(dim)

    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, in_channels, H, W] in [-1, 1]."""
        features: Tensor = self.whitening(self.body(images))
        return features


class AttributeNet(FeatureClassifier):
    """Classifier of face attributes, as used for evaluation in papers on attribute editing.

    Five stages of two 3x3 convolutions with BatchNorm and ReLU and 2x2 max pooling, with 1, 2, 4, 8 and 16 times
    ``width`` channels, a hidden layer and one logit per attribute. With ``width`` 16, ``hidden`` 512 and 128 pixels it
    is the one of Liu et al., "STGAN", CVPR 2019.

    Args:
        in_channels: channels of the images.
        classes: number of logits.
        image_size: height and width in pixels, a multiple of 32.
        width: channels of the first stage.
        hidden: length of the hidden layer, which gives the features.
        dropout: dropout probability before the last layer.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 1,
        image_size: int = 64,
        width: int = 16,
        hidden: int = 512,
        dropout: float = 0.0,
    ) -> None:
        _check_size(image_size, 5)
        layers: list[nn.Module] = []
        previous = in_channels
        for stage in range(5):
            channels = width << stage
            layers += [*_conv(previous, channels), *_conv(channels, channels), nn.MaxPool2d(2)]
            previous = channels
        layers += [nn.Flatten(), nn.Linear(previous * (image_size // 32) ** 2, hidden), nn.ReLU()]
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))
        super().__init__(nn.Sequential(*layers), head, in_channels, classes, hidden)
