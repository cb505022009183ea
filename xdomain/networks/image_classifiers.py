"""The usual networks of image classification at 32x32 pixels, and ResNets for larger images.

Convolutions have no bias and the initial weights of He et al. 2015 (normal, fan-out). The features are the means of the
last map.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from xdomain.errors import refuse
from xdomain.networks.classifier import FeatureClassifier


class ResNetClassifier(FeatureClassifier):
    """ResNet (He et al., CVPR 2016) and ResNeXt (Xie et al., CVPR 2017) of torchvision's blocks.

    ResNet-18 has ``blocks=[2, 2, 2, 2]``; ResNet-50 [3, 4, 6, 3] with ``bottleneck``; ResNeXt-29 4x32d [3, 3, 3] with
    ``bottleneck``, ``groups=4``, ``group_width=32``. The stride of a bottleneck is that of its 3x3 convolution.

    Args:
        blocks: number of blocks in each stage; every stage but the first halves the map.
        widths: channels of each stage, before the factor 4 of bottlenecks; by default 64, doubled with every stage.
        bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions instead of two 3x3.
        groups: groups of the 3x3 convolutions in bottlenecks.
        group_width: channels of a group, per 64 channels of the stage.
        stem: ``cifar``: 3x3 convolution; ``imagenet``: 7x7 convolution of stride 2 and 3x3 max-pooling of stride 2.
        in_channels: channels of the images.
        classes: number of logits.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] | None = None,
        bottleneck: bool = False,
        groups: int = 1,
        group_width: int = 64,
        stem: Literal["cifar", "imagenet"] = "cifar",
        in_channels: int = 3,
        classes: int = 10,
    ) -> None:
        widths = [64 << stage for stage in range(len(blocks))] if widths is None else widths
        kind = Bottleneck if bottleneck else BasicBlock
        first, previous = widths[0], widths[0]
        size = (3, 1) if stem == "cifar" else (7, 2)
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, first, size[0], size[1], size[0] // 2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        ]
        if stem == "imagenet":
            layers.append(nn.MaxPool2d(3, 2, 1))
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for number in range(count):
                stride, out = (2 if stage and not number else 1), width * kind.expansion
                downsample = None
                if stride > 1 or previous != out:
                    downsample = nn.Sequential(nn.Conv2d(previous, out, 1, stride, bias=False), nn.BatchNorm2d(out))
                layers.append(kind(previous, width, stride, downsample, groups, group_width))
                previous = out
        super().__init__(_pooled(layers), nn.Linear(previous, classes), in_channels, classes, previous)
        _initialise(self)


class WideResNet(FeatureClassifier):
    """Wide residual network of pre-activation blocks (Zagoruyko and Komodakis, BMVC 2016); WRN-40-2 by default.

    Args:
        depth: number of layers, 6 n + 4 with n blocks in each of three stages.
        widen: factor of the widths 16, 32, 64.
        dropout: share of the activations that is dropped between the convolutions of a block.
        in_channels: channels of the images.
        classes: number of logits.
    """

    def __init__(
        self, depth: int = 40, widen: int = 2, dropout: float = 0.0, in_channels: int = 3, classes: int = 10
    ) -> None:
        widths = [16, *(width * widen for width in (16, 32, 64))]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)]
        for stage, (previous, width) in enumerate(pairwise(widths)):
            for number in range(_each(self, depth, 6, 4)):
                stride = 2 if stage and not number else 1
                layers.append(_WideBlock(width if number else previous, width, stride, dropout))
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
        super().__init__(_pooled(layers), nn.Linear(widths[-1], classes), in_channels, classes, widths[-1])
        _initialise(self)


class _WideBlock(nn.Module):
    def __init__(self, previous: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(previous), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(
            nn.Conv2d(previous, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.shortcut = None if previous == width else nn.Conv2d(previous, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        change: Tensor = self.layers(active)
        return change + (x if self.shortcut is None else self.shortcut(active))


class DenseNet(FeatureClassifier):
    """DenseNet (Huang et al., CVPR 2017) with three dense blocks; pre-activation layers, 2x2 average pooling between.

    With ``bottleneck=False`` and ``compression=1`` it is the plain one, with ``depth=100`` and the defaults else
    DenseNet-BC of the paper.

    Args:
        depth: number of layers: 3 n + 4 with n layers in every block, 6 n + 4 with ``bottleneck``.
        growth: channels that each layer adds.
        bottleneck: a 1x1 convolution to 4 times ``growth`` channels before every 3x3 convolution.
        compression: share of the channels that a transition keeps.
        in_channels: channels of the images.
        classes: number of logits.
    """

    def __init__(
        self,
        depth: int = 100,
        growth: int = 12,
        bottleneck: bool = True,
        compression: float = 0.5,
        in_channels: int = 3,
        classes: int = 10,
    ) -> None:
        each = _each(self, depth, 6 if bottleneck else 3, 4)
        width = 2 * growth if bottleneck else 16
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False)]
        for block in range(3):
            for _ in range(each):
                layers.append(_DenseLayer(width, growth, bottleneck))
                width += growth
            if block < 2:
                layers.append(_Transition(width, int(width * compression)))
                width = int(width * compression)
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        super().__init__(_pooled(layers), nn.Linear(width, classes), in_channels, classes, width)
        _initialise(self)


class _DenseLayer(nn.Module):
    def __init__(self, width: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        layers = [*_active(width, 4 * growth, 1), *_active(4 * growth, growth, 3)]
        self.layers = nn.Sequential(*(layers if bottleneck else _active(width, growth, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


class _Transition(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.transition = nn.Sequential(*_active(width, out, 1), nn.AvgPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.transition(x)
        return halved


class PyramidNet(FeatureClassifier):
    """Pyramidal residual network, whose width grows by the same number in every block (Han et al., CVPR 2017).

    Shortcuts without weights: average pooling where the map is halved, zeros in the added channels.

    Args:
        depth: number of layers: 6 n + 2 with n blocks in each of three stages, 9 n + 2 with ``bottleneck``.
        alpha: channels added over all blocks to the 16 of the first convolution.
        bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions, whose output is 4 times as wide.
        in_channels: channels of the images.
        classes: number of logits.
    """

    def __init__(
        self, depth: int = 110, alpha: int = 48, bottleneck: bool = False, in_channels: int = 3, classes: int = 10
    ) -> None:
        each = _each(self, depth, 9 if bottleneck else 6, 2)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
        previous = 16
        for number in range(3 * each):
            width = round(16 + alpha * (number + 1) / (3 * each))
            stride = 2 if number in (each, 2 * each) else 1
            layers.append(_PyramidBlock(previous, width, stride, bottleneck))
            previous = width * (4 if bottleneck else 1)
        layers += [nn.BatchNorm2d(previous), nn.ReLU(inplace=True)]
        super().__init__(_pooled(layers), nn.Linear(previous, classes), in_channels, classes, previous)
        _initialise(self)


class _PyramidBlock(nn.Module):
    def __init__(self, previous: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.stride, self.added = stride, width * (4 if bottleneck else 1) - previous
        sizes = [(width, 1), (width, 3), (4 * width, 1)] if bottleneck else [(width, 3), (width, 3)]
        strided = 1 if bottleneck else 0
        self.layers = nn.Sequential(nn.BatchNorm2d(previous))
        for number, (out, kernel) in enumerate(sizes):
            if number:
                self.layers.append(nn.ReLU(inplace=True))
            step = stride if number == strided else 1
            self.layers.append(nn.Conv2d(previous, out, kernel, step, kernel // 2, bias=False))
            self.layers.append(nn.BatchNorm2d(out))
            previous = out

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.layers(x)
        kept = F.avg_pool2d(x, 2) if self.stride == 2 else x
        return change + F.pad(kept, (0, 0, 0, 0, 0, self.added))


def _each(owner: object, depth: int, layers: int, more: int) -> int:
    """Blocks in each of three stages of a network of a depth, or layers of a dense block."""
    count, rest = divmod(depth - more, layers)
    if rest or count < 1:
        refuse(owner, "depth", depth, f"give {layers} n + {more} for n blocks in each stage.")
    return count


def _active(width: int, out: int, kernel: int) -> list[nn.Module]:
    """BatchNorm, ReLU, convolution."""
    convolution = nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(width), nn.ReLU(inplace=True), convolution]


def _pooled(layers: Sequence[nn.Module]) -> nn.Sequential:
    """The layers, then the mean over the map: [N, C]."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
