"""Sizes, shapes and parameter counts of the DCGAN family."""

import itertools

import pytest
import torch

from xdomain.networks import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_classifier_has_the_published_number_of_parameters():
    assert parameters(ConvClassifier()) == 667_146
    # the same from the widths: 3x3 kernels with biases, one linear layer
    widths = [3, 64, 128, 256, 128]
    by_hand = sum(9 * i * o + o for i, o in itertools.pairwise(widths)) + 128 * 10 + 10
    assert by_hand == 667_146


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_classifier_shapes(size, batch_norm):
    network = ConvClassifier(1, 7, size, widths=(4, 6, 8), batch_norm=batch_norm, dropout=0.5)
    images = torch.rand(3, 1, size, size) * 2 - 1
    assert network.features(images).shape == (3, 8)
    assert network(images).shape == (3, 7)
    assert (network.in_channels, network.classes, network.dim) == (1, 7, 8)


def test_features_are_taken_before_the_last_relu():
    network = ConvClassifier(image_size=16, widths=(4, 4, 32)).eval()
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    features = network.features(images)
    assert (features < 0).any()
    linear = network.head[-1]
    torch.testing.assert_close(network(images), features.clamp(min=0) @ linear.weight.T + linear.bias)


def test_classifier_answers_images_one_by_one_as_in_a_batch():
    network = ConvClassifier(image_size=16, widths=(4, 4, 8), batch_norm=True, dropout=0.5).eval()
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]))


def test_decoder_has_the_size_of_the_paper():
    assert parameters(UpConvDecoder(128, 1, 32, width=512)) == pytest.approx(3.67e6, rel=0.01)


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoder_shape_and_range(size, channels):
    decoder = UpConvDecoder(6, channels, size, width=32)
    images = decoder(torch.randn(4, 6) * 100)
    assert images.shape == (4, channels, size, size)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("size", [8, 32, 64])
def test_encoder_and_discriminator_shapes(size):
    images = torch.rand(4, 3, size, size)
    assert ConvEncoder(3, 5, size, width=4)(images).shape == (4, 5)
    assert ConvDiscriminator(3, size, width=4)(images).shape == (4, 3)
    assert ConvDiscriminator(3, size, classes=1, width=4, dropout=0.1)(images).shape == (4, 1)


def test_discriminator_sees_every_pixel():
    D = ConvDiscriminator(1, 32, width=4).eval()
    images = torch.randn(1, 1, 32, 32, requires_grad=True)
    D(images).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).all()


def test_noise_only_while_training():
    D = ConvDiscriminator(1, 8, width=4, batch_norm=False, noise=0.5)
    images = torch.zeros(2, 1, 8, 8)
    assert not torch.equal(D.train()(images), D(images))
    assert torch.equal(D.eval()(images), D(images))


@pytest.mark.parametrize("size", [0, 4, 12, 28, 33, 48])
def test_sizes_that_cannot_be_halved_to_four_are_refused(size):
    for make in (
        lambda: UpConvDecoder(8, 1, size),
        lambda: ConvDiscriminator(1, size),
        lambda: ConvEncoder(1, 8, size),
    ):
        with pytest.raises(ValueError, match=f"is {size}, but must be 4 times a power of two: the nearest is"):
            make()


def test_initialisation():
    decoder = UpConvDecoder(64, 3, 32, width=256)
    kernel = decoder.layers[3].weight
    assert kernel.std().item() == pytest.approx(0.02, rel=0.05)
    assert kernel.mean().item() == pytest.approx(0.0, abs=1e-3)
    norm = decoder.layers[1]
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(norm.bias, torch.zeros_like(norm.bias))
