"""Networks that label every pixel: a U-Net, and DeepLab's parts with the discriminator of FADA."""

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.unet import UNetGenerator

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


class SmallFeatures(nn.Module):
    """Features for small images at a quarter of their resolution: two halving and two dilated convolutions.

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution, then twice as many; a multiple of 4.

    Attributes:
        dim: channels of the features.
    """

    def __init__(self, in_channels: int = 3, width: int = 32) -> None:
        super().__init__()
        self.dim = 2 * width
        layers: list[nn.Module] = []
        before = in_channels
        for channels, stride, dilation in ((width, 2, 1), (self.dim, 2, 1), (self.dim, 1, 2), (self.dim, 1, 2)):
            convolution = nn.Conv2d(before, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
            layers += [convolution, nn.GroupNorm(4, channels), nn.ReLU(inplace=True)]
            before = channels
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, dim, H/4, W/4] of images [N, in_channels, H, W] in [-1, 1]."""
        features: Tensor = self.layers(images)
        return features


class ResNetFeatures(nn.Module):
    """The features of DeepLab-v2: a ResNet at an eighth of the resolution (Chen et al., TPAMI 2018).

    The last two stages of torchvision's network are dilated by 2 and 4 instead of halving.

    Args:
        in_channels: channels of the images, always 3.
        depth: 50, 101 or 152 layers.

    Attributes:
        dim: channels of the features.
    """

    dim = 2048
    mean: Tensor
    deviation: Tensor

    def __init__(self, in_channels: int = 3, depth: int = 101) -> None:
        super().__init__()
        if in_channels != 3:
            raise ValueError("ResNetFeatures takes RGB images")
        build = getattr(torchvision.models, f"resnet{depth}")
        self.network = build(weights=None, replace_stride_with_dilation=[False, True, True])
        self.network.fc = nn.Identity()
        for name, value in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Begin with the weights of torchvision's network.

        Raises:
            RuntimeError: if they do not fit.
        """
        self.network.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, 2048, H/8, W/8] of images [N, 3, H, W] in [-1, 1]."""
        net, x = self.network, ((images + 1) / 2 - self.mean) / self.deviation
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        features: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return features


class DilatedHeads(nn.Module):
    """The classifier of DeepLab-v2: the sum of dilated 3x3 convolutions (Chen et al., TPAMI 2018).

    Args:
        dim: channels of the features.
        classes: number of classes.
        dilations: one convolution for each.
    """

    def __init__(self, dim: int, classes: int, dilations: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        heads = [nn.Conv2d(dim, classes, 3, padding=d, dilation=d) for d in dilations]
        for head in heads:
            nn.init.normal_(head.weight, std=0.01)
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, classes, h, w] of features [N, dim, h, w]."""
        return torch.stack([head(features) for head in self.heads]).sum(0)


class FineGrainedDiscriminator(nn.Module):
    """Two maps for every class, "source of class k" and "target of class k" (Wang et al., ECCV 2020).

    Args:
        dim: channels of the features that it judges.
        classes: number of classes K.
        widths: channels of the two convolutions in front.
    """

    def __init__(self, dim: int, classes: int, widths: tuple[int, int] = (256, 128)) -> None:
        super().__init__()
        first, second = widths
        self.trunk = nn.Sequential(
            nn.Conv2d(dim, first, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(first, second, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.source, self.target = (nn.Conv2d(second, classes, 3, padding=1) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, 2 K, h, w] of features [N, dim, h, w]."""
        shared = self.trunk(features)
        return torch.cat([self.source(shared), self.target(shared)], 1)


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [N, C, h, w] at height and width ``size``, bilinear with aligned corners as in DeepLab and FADA."""
    return F.interpolate(maps, [*size], mode="bilinear", align_corners=True)
