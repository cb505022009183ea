"""The half-size networks: shapes, parameters counted by hand, refused sizes."""

import pytest
import torch

from xdomain.networks import HalfResolutionClassifier, HalfResolutionDecoder, HalfResolutionDiscriminator


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_classifier():
    network = HalfResolutionClassifier().eval()
    convolutions = 27 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 16 * 128 * 128
    assert count(network) == convolutions + 2 * (32 + 64 + 128 + 128) + 128 * 10 + 10
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    assert network.features(images).shape == (3, 128)
    torch.testing.assert_close(network(images), network.head(network.features(images)))


def test_what_is_finer_than_half_size_is_not_seen():
    network = HalfResolutionClassifier().eval()
    images = torch.rand(2, 3, 32, 32)
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    torch.testing.assert_close(network(images + checks), network(images), rtol=1e-4, atol=1e-5)


def test_decoder_and_discriminator():
    images = HalfResolutionDecoder(138, 1)(torch.randn(4, 138))
    assert images.shape == (4, 1, 32, 32)
    assert images.abs().max() <= 1
    assert HalfResolutionDiscriminator(1)(images).shape == (4, 3)


@pytest.mark.parametrize("make", [HalfResolutionClassifier, lambda image_size: HalfResolutionDecoder(8, 1, image_size)])
def test_other_sizes_are_refused(make):
    with pytest.raises(ValueError, match="image_size is 64"):
        make(image_size=64)
