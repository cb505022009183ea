"""Parameter counts that the papers print, sizes of the maps, and where permuted AdaIN goes."""

from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from xdomain.errors import UserError
from xdomain.networks import DenseNet, PyramidNet, ResNetClassifier, WideResNet, insert_padain

RESNET18 = ResNetClassifier
RESNET50 = partial(ResNetClassifier, [3, 4, 6, 3], bottleneck=True)
RESNEXT29 = partial(ResNetClassifier, [3, 3, 3], bottleneck=True)
PLAIN_DENSENET = partial(DenseNet, 40, bottleneck=False, compression=1.0)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("build", "classes", "millions", "digits"),
    [
        (RESNET18, 100, 11.22, 2),  # the authors' code
        (partial(RESNET50, stem="imagenet"), 1000, 25.557, 3),  # torchvision's documentation
        (partial(RESNEXT29, groups=8, group_width=64), 10, 34.4, 1),  # Xie et al., table 7
        (WideResNet, 10, 2.2, 1),  # Zagoruyko and Komodakis, table 4
        (partial(WideResNet, 28, 10), 10, 36.5, 1),
        (PLAIN_DENSENET, 10, 1.0, 1),  # Huang et al., table 2
        (DenseNet, 10, 0.8, 1),
        (partial(PyramidNet, 200, 240, bottleneck=True), 100, 26.8, 1),  # Yun et al., CutMix, table 5
    ],
    ids=[
        "ResNet-18",
        "ResNet-50",
        "ResNeXt-29 8x64d",
        "WRN-40-2",
        "WRN-28-10",
        "DenseNet 40",
        "DenseNet-BC 100",
        "PyramidNet-200",
    ],
)
def test_parameters_in_millions(build, classes, millions, digits):
    with torch.device("meta"):
        assert round(count(build(classes=classes)) / 1e6, digits) == millions


def test_the_imagenet_stem_gives_torchvisions_network():
    """The same weights in the same order give the same logits."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    with torch.device("meta"):
        ours = RESNET18(stem="imagenet", classes=7).eval()
    values = list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)), assign=True)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("build", "calls"),
    [
        (RESNET18, 17),
        (partial(RESNET50, stem="imagenet"), 49),
        (partial(RESNEXT29, groups=4, group_width=32), 28),
        (PLAIN_DENSENET, 37),
        (DenseNet, 97),
        (WideResNet, 37),
        (partial(PyramidNet, 20), 19),
    ],
    ids=["ResNet-18", "ResNet-50", "ResNeXt-29", "DenseNet 40", "DenseNet-BC 100", "WRN-40-2", "PyramidNet-20"],
)
def test_calls_of_permuted_adain(build, calls):
    """Section 4 of its description: one after each convolution but for projections and transitions."""
    with torch.device("meta"):
        assert len(insert_padain(build())) == calls


SMALL = {
    "ResNet": partial(ResNetClassifier, [1, 1, 1], [4, 8, 16]),
    "ResNeXt": partial(ResNetClassifier, [1, 1, 1], [4, 8, 16], bottleneck=True, groups=2, group_width=32),
    "WRN": partial(WideResNet, 10, 1),
    "DenseNet": partial(DenseNet, 7, 4, bottleneck=False, compression=1.0),
    "DenseNet-BC": partial(DenseNet, 10, 4),
    "PyramidNet": partial(PyramidNet, 8, 12),
    "PyramidNet bottleneck": partial(PyramidNet, 11, 12, bottleneck=True),
}


@pytest.mark.parametrize("name", SMALL)
def test_maps_and_features(name):
    """Two halvings, at the beginning of the second and third stage; features are the means of an active map."""
    network = SMALL[name](in_channels=1, classes=5)
    seen = []
    network.body[-2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        features, logits = network.eval().features(images), network(images)
    assert seen[0].shape == (2, network.dim, 8, 8)
    assert float(seen[0].min()) >= 0
    torch.testing.assert_close(features, seen[0].mean((2, 3)))
    torch.testing.assert_close(logits, network.head(features))


def test_initial_weights():
    """He et al., fan-out: the deviation is sqrt(2 / (channels of the output * area))."""
    torch.manual_seed(0)
    network = ResNetClassifier([1, 1, 1], [16, 32, 64])
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(convolution.bias is None for convolution in convolutions)
    last = convolutions[-2] if convolutions[-1].kernel_size == (1, 1) else convolutions[-1]
    assert float(last.weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("build", "depth", "fitting"),
    [(WideResNet, 41, r"6 n \+ 4"), (DenseNet, 99, r"6 n \+ 4"), (PyramidNet, 2, r"6 n \+ 2")],
    ids=["WRN", "DenseNet", "PyramidNet"],
)
def test_depths_that_do_not_fit_are_refused(build, depth, fitting):
    with pytest.raises(UserError, match=rf"depth.*{depth}.*{fitting}"):
        build(depth)
