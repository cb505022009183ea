"""The networks that look at faces."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from xdomain.networks import AttributeNet, FaceEmbedder, UpConvDecoder
from xdomain.networks.faces import Whitening


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_embedder_features_lie_on_a_sphere():
    network = FaceEmbedder(classes=7, image_size=32, width=4, dim=10)
    images = torch.rand(5, 3, 32, 32) * 2 - 1
    features = network.features(images)
    torch.testing.assert_close(features.square().sum(1), torch.full((5,), 10.0))
    assert network(images).shape == (5, 7)


def test_embedder_logits_are_scaled_cosines():
    network = FaceEmbedder(classes=4, image_size=16, width=2, dim=6, scale=5.0)
    features = torch.randn(3, 6)
    wanted = torch.stack([5 * F.cosine_similarity(features, row[None]) for row in network.head.directions], 1)
    torch.testing.assert_close(network.head(features), wanted)
    torch.testing.assert_close(network.head(7 * features), wanted)


def test_whitening_is_the_likelihood_ratio_of_two_gaussians():
    generator = torch.Generator().manual_seed(0)
    signal = torch.tensor([4.0, 1.0, 0.25, 0.0])  # variance of people along each axis, where images have 1
    mix = torch.randn(4, 4, generator=generator) + 3 * torch.eye(4)
    people = torch.randn(20000, 1, 4, generator=generator) * signal.sqrt()
    vectors = (people + torch.randn(20000, 3, 4, generator=generator)) @ mix + 5
    whitening = Whitening(4)
    torch.testing.assert_close(whitening(vectors[0]), F.normalize(vectors[0]) * 2)  # nothing learned yet
    whitening.fit(vectors)
    torch.testing.assert_close(whitening.mean, vectors.mean((0, 1)), atol=0.1, rtol=0)
    # the product of the mapped vectors is the cross term x' Q y of the log-likelihood ratio, computed from covariances
    between, within = mix.T @ signal.diag() @ mix, mix.T @ mix
    total = between + within
    joint = torch.cat([torch.cat([total, between], 1), torch.cat([between, total], 1)])
    cross = -torch.linalg.inv(joint)[:4, 4:]
    torch.testing.assert_close(whitening.matrix @ whitening.matrix.T, cross, atol=0.03 * cross.abs().max(), rtol=0)
    torch.testing.assert_close(whitening(vectors[0]).square().sum(1), torch.full((3,), 4.0))


def test_embedder_features_are_whitened_and_its_training_is_not():
    network = FaceEmbedder(classes=4, image_size=16, width=2, dim=6).eval()
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    raw = network.body(images)
    torch.testing.assert_close(network.features(images), raw)
    network.whitening.fit(torch.randn(50, 2, 6))
    assert not torch.allclose(network.features(images), raw)
    torch.testing.assert_close(network.features(images), network.whitening(raw))


def test_attribute_net_at_the_published_size():
    network = AttributeNet(classes=40, image_size=128)
    widths = [3, 16, 32, 64, 128, 256]
    convolutions = sum(9 * i * o + 9 * o * o + 4 * o for i, o in itertools.pairwise(widths))
    assert parameters(network) == convolutions + (256 * 16 + 1) * 512 + 513 * 40


@pytest.mark.parametrize("size", [32, 64])
def test_attribute_net_shapes(size):
    network = AttributeNet(1, 3, size, width=2, hidden=9).eval()
    images = torch.rand(4, 1, size, size)
    features = network.features(images)
    assert features.shape == (4, 9)
    torch.testing.assert_close(network(images), network.head(features))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        FaceEmbedder(image_size=40)
    with pytest.raises(ValueError, match="multiple of 32"):
        AttributeNet(image_size=48)


@pytest.mark.parametrize(("dim", "width", "millions"), [(128, 256, 1.30), (256, 512, 5.20)])
def test_face_decoder_has_the_sizes_of_the_paper(dim, width, millions):
    decoder = UpConvDecoder(dim, 3, 64, width, pointwise=True)
    assert parameters(decoder) == pytest.approx(millions * 1e6, rel=0.01)
    assert decoder(torch.randn(2, dim)).shape == (2, 3, 64, 64)
