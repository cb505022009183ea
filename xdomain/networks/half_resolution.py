"""Networks that work at half the image size: a quarter of the cost if the finest pixels carry no information.

For digits whose originals are as small as 8x8: only noise is lost, and the generator cannot fool a frozen classifier
with patterns that it cannot draw.
"""

from torch import Tensor, nn

from xdomain.networks.classifier import FeatureClassifier


def _check(image_size: int) -> None:
    if image_size != 32:
        raise ValueError(f"image_size is {image_size}, but the half-size networks are made for 32")


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]


class HalfResolutionClassifier(FeatureClassifier):
    """Three 3x3 convolutions and one over the last 4x4 map, each with BatchNorm, then ReLU and a linear layer.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        image_size: height and width in pixels; 32.
        width: channels after the first convolution.
        dim: length of the features, which are taken before the last ReLU.
        dropout: dropout probability before the linear layer.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 10,
        image_size: int = 32,
        width: int = 32,
        dim: int = 128,
        dropout: float = 0.0,
    ) -> None:
        _check(image_size)
        body = nn.Sequential(
            nn.AvgPool2d(2),
            *_conv(in_channels, width),
            nn.ReLU(),
            *_conv(width, 2 * width),
            nn.MaxPool2d(2),
            nn.ReLU(),
            *_conv(2 * width, 4 * width),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(4 * width, dim, 4, bias=False),
            nn.BatchNorm2d(dim),
            nn.Flatten(),
        )
        head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, classes))
        super().__init__(body, head, in_channels, classes, dim)


class HalfResolutionDecoder(nn.Module):
    """g: maps a vector to an image: transposed convolutions at half size, bilinear upsampling, tanh.

    Args:
        dim: length of the vector.
        out_channels: channels of the image.
        image_size: height and width in pixels; 32.
        width: channels of the 8x8 map; the 4x4 map has twice as many.
    """

    def __init__(self, dim: int, out_channels: int, image_size: int = 32, width: int = 64) -> None:
        super().__init__()
        _check(image_size)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(dim, 2 * width, 4, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, out_channels, 4, 2, 1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Tanh(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Images [N, out_channels, 32, 32] in [-1, 1] of vectors [N, dim]."""
        images: Tensor = self.layers(features[:, :, None, None])
        return images


class HalfResolutionDiscriminator(nn.Module):
    """D: maps an image, averaged to half size, to class logits; 3x3 convolutions, LeakyReLU(0.2), dropout.

    Args:
        in_channels: channels of the images.
        image_size: height and width in pixels; 32.
        classes: number of logits.
        width: channels after the first convolution.
        dropout: probability of dropping a channel.
    """

    def __init__(
        self, in_channels: int, image_size: int = 32, classes: int = 3, width: int = 48, dropout: float = 0.1
    ) -> None:
        super().__init__()
        _check(image_size)
        self.layers = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Dropout2d(dropout),
            nn.Conv2d(2 * width, classes, 4),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, in_channels, 32, 32] in [-1, 1]."""
        logits: Tensor = self.layers(images)
        return logits
