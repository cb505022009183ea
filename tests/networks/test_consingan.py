"""The growing generator against its formulas written out: one stage after the other, edges included."""

import pytest
import torch
from torch.nn import functional as F

from xdomain.networks.consingan import GrowingGenerator, enlarge
from xdomain.networks.patches import init_normal, patch_stack

SIZES = [(8, 10), (11, 14), (16, 20)]


def make(**options):
    network = GrowingGenerator(3, **{"width": 4, **options})
    init_normal(network)
    for parameter in network.parameters():
        parameter.data.mul_(8)  # far from linear
    return network


def noises(network, count=2, sizes=SIZES):
    return [torch.randn(count, *network.noise_shape(i, size)) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("zeros", [False, True])
def test_features_grow_as_in_the_paper(zeros, layers):
    network = make(zeros=zeros, layers=layers)
    z = noises(network)

    def convolve(i, x):
        for block in network.stages[i]:
            x = F.leaky_relu(F.conv2d(x, block[0].weight, block[0].bias), 0.05)
        return x

    def bicubic(x, size):
        return F.interpolate(x, size=size, mode="bicubic", align_corners=True)

    x = F.leaky_relu(F.conv2d(z[0], network.head[0].weight, network.head[0].bias, padding=1), 0.05)
    x = F.pad(x, [layers] * 4) if zeros else F.pad(bicubic(x, (10, 12)), [layers - 1] * 4)
    x = convolve(0, x)
    for i, (height, width) in enumerate(SIZES[1:], 1):
        kept = bicubic(x, (height, width))
        if zeros:
            wide = F.pad(kept + z[i], [layers] * 4)
        else:
            wide = bicubic(x, (height + 2 * layers, width + 2 * layers)) + z[i]
        x = kept + convolve(i, wide)
    expected = torch.tanh(F.conv2d(x, network.tail.weight, network.tail.bias, padding=1))
    torch.testing.assert_close(network(z, SIZES), expected)
    assert expected.shape == (2, 3, 16, 20)
    assert expected.std() > 0.05


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_features_of_finished_stages_can_be_kept_and_pictures_share_a_batch(norm):
    network = make(norm=norm).double()
    z = [noise.double() for noise in noises(network)]
    below = network.features(z[:2], SIZES)
    assert below.shape == (2, 4, 11, 14)
    torch.testing.assert_close(network(z[2:], SIZES, below, 2), network(z, SIZES))
    torch.testing.assert_close(network([x[1:] for x in z], SIZES), network(z, SIZES)[1:])


def test_fewer_noises_give_a_coarser_picture():
    network = make()
    assert [network(noises(network)[: n + 1], SIZES).shape[2:] for n in range(3)] == SIZES


def test_numbers_of_parameters():
    with torch.device("meta"):
        network, D = GrowingGenerator(6), patch_stack(3, 64, 1, 5, norm="none")
    head, stage, tail = 3 * 64 * 9 + 64, 3 * (64 * 64 * 9 + 64), 64 * 3 * 9 + 3
    assert sum(p.numel() for p in network.parameters()) == head + 6 * stage + tail
    assert sum(p.numel() for p in D.parameters()) == head + stage + 64 * 9 + 1


def test_discriminator_sees_patches_of_eleven_pixels():
    D = patch_stack(3, 4, 1, 5, norm="none", slope=0.05)
    image = torch.randn(1, 3, 25, 25, requires_grad=True)
    scores = D(image)
    assert scores.shape == (1, 1, 15, 15)
    (slope,) = torch.autograd.grad(scores[0, 0, 7, 7], image)
    rows = slope.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (7, 17)


def test_enlarging_keeps_the_corners():
    x = torch.randn(1, 2, 4, 5)
    y = enlarge(x, (7, 9))
    torch.testing.assert_close(y[:, :, [0, 0, -1, -1], [0, -1, 0, -1]], x[:, :, [0, 0, -1, -1], [0, -1, 0, -1]])
