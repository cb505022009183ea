"""A small network that labels every pixel."""

from torch import Tensor, nn

from xdomain.networks.unet import UNetGenerator


class SegmentationNet(UNetGenerator):
    """A U-Net with logits of classes in place of colours.

    Args:
        in_channels: channels of the images.
        classes: number of classes.
        width: channels after the first convolution.
        depth: number of halvings; the sides of images must be multiples of 2^depth.
        image_size: height and width that images are brought to; None takes them as they are.

    Attributes:
        dim: number of values at a pixel before the last layer.
    """

    def __init__(
        self, in_channels: int = 3, classes: int = 12, width: int = 32, depth: int = 4, image_size: int | None = None
    ) -> None:
        super().__init__(in_channels, classes, width, depth, dropout=0.0)
        self.last = nn.Sequential(*list(self.last)[:-1])  # without tanh
        self.in_channels, self.classes, self.dim, self.image_size = in_channels, classes, 2 * width, image_size

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes, H, W] of images [N, in_channels, H, W] in [-1, 1]."""
        return super().forward(images)
