"""Gradient reversal against its definition; sizes of the networks of DANN and ADDA."""

import pytest
import torch

from xdomain.networks import DomainDiscriminator, LeNet, MNISTNet, SVHNNet
from xdomain.networks.adaptation import Standardize, reverse_gradient


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.5])
def test_reversal_is_the_identity_with_a_gradient_turned_around(strength):
    x, w = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    y = reverse_gradient(x, strength)
    assert torch.equal(y, x)
    (slope,) = torch.autograd.grad((y * w).sum(), [x])
    torch.testing.assert_close(slope, -strength * w, rtol=0, atol=0)


def test_what_stands_behind_a_reversal_of_strength_zero_still_learns():
    x, d = torch.randn(6, 4, requires_grad=True), DomainDiscriminator(4, [5])
    loss = d(reverse_gradient(x, 0.0)).sigmoid().log().sum()
    slope, *of_d = torch.autograd.grad(loss, [x, *d.parameters()])
    assert not slope.any()
    expected = torch.autograd.grad(d(x.detach()).sigmoid().log().sum(), list(d.parameters()))
    for found, wanted in zip(of_d, expected, strict=True):
        assert wanted.any()
        assert torch.equal(found, wanted)


def test_standardized_images():
    images = torch.rand(3, 2, 8, 8) * torch.tensor([0.1, 1.0, 0.0]).view(3, 1, 1, 1) + 0.5
    result = Standardize()(images)
    for image, before in zip(result[:2], images[:2], strict=True):
        expected = (before - before.mean()) / before.std(correction=0)
        torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)
    assert not result[2].any()


def test_sizes_of_the_networks():
    """Counted by hand from the layers: weights, biases, batch norm."""
    mnist = MNISTNet()
    assert count(mnist.body) == (75 * 32 + 32) + (32 * 25 * 48 + 48)
    assert count(mnist.head) == (48 * 64 * 100 + 100) + (100 * 100 + 100) + (100 * 10 + 10)
    assert count(MNISTNet(batch_norm=True).body) == 75 * 32 + 2 * 32 + 32 * 25 * 48 + 2 * 48
    assert count(DomainDiscriminator(mnist.dim)) == (48 * 64 * 100 + 100) + (100 + 1)
    with torch.device("meta"):  # nothing is drawn for 35 million weights
        svhn = SVHNNet()
    assert svhn.dim == 128 * 8 * 8
    assert count(svhn.body) == (75 * 64 + 64) + (64 * 25 * 64 + 64) + (64 * 25 * 128 + 128)
    assert count(svhn.head) == (8192 * 3072 + 3072) + (3072 * 2048 + 2048) + (2048 * 10 + 10)
    assert count(LeNet(image_size=28)) == 431_080  # LeNet of Caffe, which ADDA's is


@pytest.mark.parametrize(
    "network",
    [
        MNISTNet(1, 7, 28, widths=(3, 4), hidden=(5,), standardize=True),
        MNISTNet(1, 7, 28, widths=(3, 4), hidden=(5,), batch_norm=True),
        SVHNNet(1, 7, 28, widths=(3, 4, 5), hidden=(6,)),
        LeNet(1, 7, 28, widths=(3, 4), hidden=5),
    ],
    ids=["MNISTNet standardized", "MNISTNet with batch norm", "SVHNNet", "LeNet"],
)
def test_features_and_logits(network):
    images = torch.randn(3, 1, 28, 28)
    features = network.features(images)
    assert features.shape == (3, network.dim)
    assert features.min() >= 0
    assert network(images).shape == (3, 7)
    torch.testing.assert_close(network(images), network.head(features))


def test_a_standardized_network_sees_neither_brightness_nor_contrast():
    network, images = MNISTNet(standardize=True).eval(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(images), network(0.2 * images - 0.7), rtol=1e-3, atol=1e-5)
