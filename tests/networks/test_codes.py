"""Encoders and decoders of content transfer: sizes, order of the codes, norms."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from xdomain.networks import (
    CodeDecoder,
    CodeDiscriminator,
    CodeEncoder,
    ContentRegions,
    FaderDiscriminator,
    LinearDiscriminant,
    LinearErasure,
)
from xdomain.networks.codes import halvings, trunk
from xdomain.networks.halving import DoublingConv


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_trunks_end_at_2x2_and_at_most_six_layers():
    assert [halvings(size) for size in (16, 32, 64, 128, 256, 512)] == [3, 4, 5, 6, 6, 6]
    assert [halvings(size) for size in (24, 40, 48, 72, 80, 96, 104, 192)] == [3, 3, 4, 3, 4, 5, 3, 6]
    assert trunk(256, 32) == trunk(128, 32) == [32, 64, 128, 256, 512, 512]
    assert trunk(64, 32) == [32, 64, 128, 256, 512]
    assert trunk(32, 32) == [32, 64, 128, 256]
    assert trunk(16, 4) == [4, 8, 16]
    assert trunk(64, 16, 4) == [16, 32, 64, 128]
    decoder = CodeDecoder(3, 64, 2, depth=4)
    assert decoder.shape == (16, 4, 4)
    assert decoder(torch.randn(2, 16 * 4 * 4)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("size", [24, 96, 104])
def test_multiples_of_8_are_coded_and_decoded(size):
    channels = trunk(size, 4)
    encoder, decoder = CodeEncoder(3, channels, size), CodeDecoder(3, size, 4)
    codes = encoder(torch.randn(2, 3, size, size))
    assert codes.shape == (2, encoder.dim)
    assert decoder(codes).shape == (2, 3, size, size)
    assert FaderDiscriminator(decoder.shape, 2)(codes).shape == (2, 2)


@pytest.mark.parametrize(("size", "nearest"), [(0, 16), (8, 16), (100, 96), (102, 104), (178, 176)])
def test_other_sizes_are_refused(size, nearest):
    with pytest.raises(
        ValueError, match=f"image_size is {size}, but content transfer needs .*: the nearest is {nearest}"
    ):
        trunk(size, 4)
    with pytest.raises(ValueError, match=f"image_size is {size}"):
        CodeDecoder(3, size, 4)


@pytest.mark.parametrize(("size", "side"), [(32, 2), (64, 2), (128, 2), (256, 4)])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_shapes(size, side, norm):
    *hidden, last = trunk(size, 2)
    encoder = CodeEncoder(3, [*hidden, last - 3], size, norm)
    other = CodeEncoder(3, [*hidden, 3], size, norm)
    decoder = CodeDecoder(4, size, 2, norm=norm)
    images = torch.rand(2, 3, size, size) * 2 - 1
    code, rest = encoder(images), other(images)
    assert code.shape == (2, encoder.dim) == (2, (last - 3) * side**2)
    assert decoder.shape == (last, side, side)
    assert decoder(torch.cat([code, rest], 1)).shape == (2, 4, size, size)
    assert CodeDiscriminator(encoder.dim, 5)(code).shape == (2, 1)
    assert FaderDiscriminator(decoder.shape, 2, 8)(torch.cat([code, rest], 1)).shape == (2, 2)


def test_parameters_of_the_tables():
    # the channels by hand; the tables print two digits
    kernels = 16 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 487 + 487 * 462)
    biases = 32 + 64 + 128 + 256 + 487 + 462
    encoder = CodeEncoder(3, [32, 64, 128, 256, 487, 462], 128)
    assert parameters(encoder) == kernels + biases
    assert f"{parameters(encoder) / 1e6:.2f}" == "6.29"
    kernels = 16 * (512 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 32 + 32 * 3)
    assert parameters(CodeDecoder(3, 128, 32)) == kernels + 512 + 256 + 128 + 64 + 32 + 3
    assert f"{parameters(CodeDiscriminator(1848, 512)) / 1e6:.2f}" == "0.95"
    assert parameters(encoder) == parameters(CodeEncoder(3, [32, 64, 128, 256, 487, 462], 128, spectral=True))


@pytest.mark.parametrize(
    ("shape", "convolutions", "millions"),
    [((512, 4, 4), 2, "8.66"), ((512, 2, 2), 1, "4.46"), ((256, 4, 4), 2, "6.56"), ((256, 2, 2), 1, "2.36")],
)
def test_parameters_of_the_latent_discriminator(shape, convolutions, millions):
    d = FaderDiscriminator(shape, 2)
    assert f"{parameters(d) / 1e6:.2f}" == millions
    assert len(layers(d, nn.Conv2d)) == len(layers(d, nn.BatchNorm2d)) == len(layers(d, nn.Dropout)) == convolutions


def test_joined_codes_are_joined_channels():
    common, rest = torch.randn(2, 5, 2, 2), torch.randn(2, 3, 2, 2)
    seen = []
    decoder = CodeDecoder(3, 16, 2)
    decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoder(torch.cat([common.flatten(1), rest.flatten(1)], 1))
    assert torch.equal(seen[0], torch.cat([common, rest], 1))
    encoder = CodeEncoder(3, [2, 4, 5], 16)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(encoder(images).unflatten(1, (5, 2, 2)), encoder.layers(images))


def test_instance_norm_treats_every_image_by_itself():
    encoder, decoder = CodeEncoder(3, [2, 4, 8], 16), CodeDecoder(3, 16, 2)
    images = torch.rand(3, 3, 16, 16)
    codes = encoder(images)
    torch.testing.assert_close(codes, torch.cat([encoder(image[None]) for image in images]))
    torch.testing.assert_close(decoder(codes), torch.cat([decoder(code[None]) for code in codes]))
    assert not layers(encoder, nn.BatchNorm2d)
    assert not list(encoder.buffers())


def test_last_norm_fixes_the_scale_of_the_code():
    images = 0.01 * torch.rand(4, 3, 16, 16)
    channels = CodeEncoder(3, [2, 4, 6], 16)(images).unflatten(1, (6, 2, 2))
    before = torch.where(channels < 0, channels / 0.2, channels)  # LeakyReLU undone
    torch.testing.assert_close(before.mean((2, 3)), torch.zeros(4, 6), atol=1e-4, rtol=0)
    assert len(layers(CodeEncoder(3, [2, 4, 6], 16, without_norm=[-1]), nn.InstanceNorm2d)) == 2


def test_norms_are_left_out_where_asked():
    def kinds(without):
        return [type(layer).__name__ for layer in CodeEncoder(3, [2, 4, 6], 16, without_norm=without).layers]

    norm = ["HalvingConv", "InstanceNorm2d", "LeakyReLU"]
    bare = ["HalvingConv", "LeakyReLU"]
    assert kinds([]) == norm + norm + norm
    assert kinds([1]) == norm + bare + norm
    assert kinds([1, -1]) == norm + bare + bare
    assert kinds([0]) == bare + norm + norm


def test_spectral_norms_are_one():
    encoder = CodeEncoder(3, [4, 6, 8], 16, spectral=True)
    decoder = CodeDecoder(3, 16, 2, spectral=True)
    with torch.no_grad():
        for network in (encoder, decoder):
            for p in network.parameters():
                p.mul_(7)
        for _ in range(200):  # one power iteration each, while training
            decoder(encoder(torch.rand(2, 3, 16, 16)))
        for layer in layers(encoder, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-3)
        *normed, last = layers(decoder, nn.ConvTranspose2d)
        for layer in normed:
            matrix = layer.weight.transpose(0, 1).flatten(1)  # the outputs are one side of the matrix
            assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, rel=1e-3)
        assert type(last) is DoublingConv  # the last layer is free
    assert len(normed) == 2
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.eval()(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_labels_are_joined_at_every_layer():
    decoder = CodeDecoder(3, 16, 2, norm="batch", labels=2, bias=False).eval()
    assert all(layer.bias is None for layer in layers(decoder, nn.ConvTranspose2d))
    assert [layer.in_channels for layer in layers(decoder, nn.ConvTranspose2d)] == [8 + 2, 4 + 2, 2 + 2]
    codes, y = torch.randn(2, 32), torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    x = codes.view(2, 8, 2, 2)
    for block in decoder.blocks:
        x = block(torch.cat([x, y.view(2, 2, 1, 1).repeat(1, 1, x.shape[2], x.shape[3])], 1))
    torch.testing.assert_close(decoder(codes, y), x)


def test_activations_of_the_decoder():
    assert {type(m) for m in layers(CodeDecoder(3, 16, 2), (nn.ReLU, nn.LeakyReLU))} == {nn.ReLU}
    leaky = layers(CodeDecoder(3, 16, 2, slope=0.2), (nn.ReLU, nn.LeakyReLU))
    assert [m.negative_slope for m in leaky] == [0.2, 0.2]
    assert {m.negative_slope for m in layers(CodeEncoder(3, [2, 2, 2], 16), nn.LeakyReLU)} == {0.2}


def separated(gap, count=4000, seed=0):
    """Codes [N, 3] of two domains with a known covariance and a known difference of means."""
    mixing = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.1, 0.0], [1.0, 0.05, 0.5]])
    noise = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(seed)) @ mixing.T
    return noise[0] + torch.tensor(gap), noise[1]


def test_linear_discriminant_is_fishers():
    a, b = separated([0.5, 0.1, -0.2])
    fitted = LinearDiscriminantAnalysis(solver="lsqr").fit(
        torch.cat([a, b]).numpy(), torch.tensor([1, 0]).repeat_interleave(len(a)).numpy()
    )
    network = LinearDiscriminant(3, ridge=0.0)
    value = network(a, b)
    w = network.direction()
    reference = torch.from_numpy(fitted.coef_[0]).float()
    torch.testing.assert_close(w / w.norm(), reference / reference.norm(), rtol=1e-3, atol=1e-3)
    within = (torch.cov(a.T) + torch.cov(b.T)) / 2
    gap = a.mean(0) - b.mean(0)
    assert value.item() == pytest.approx((gap @ torch.linalg.inv(within) @ gap).sqrt().item(), rel=1e-3)  # Mahalanobis
    for codes in (a, b):
        assert (codes @ w).std().item() == pytest.approx(1, rel=0.05)


def test_linear_discriminant_sees_directions_of_little_variance():
    a, b = separated([0.0, 0.1, 0.0])  # the second value has a twentieth of the first one's deviation
    network = LinearDiscriminant(3, ridge=0.0)
    network(a, b)
    assert network.direction().abs().argmax() == 1


def test_linear_discriminant_pulls_the_means_together_and_nothing_else():
    a, b = (codes.requires_grad_() for codes in separated([0.5, 0.1, -0.2], count=50))
    network = LinearDiscriminant(3)
    network(a, b).backward()
    w = network.direction()
    torch.testing.assert_close(a.grad, (w / 50).expand(50, 3))
    torch.testing.assert_close(b.grad, (-w / 50).expand(50, 3))
    assert w @ (a.mean(0) - b.mean(0)) > 0


def test_linear_discriminant_averages_over_batches():
    batches = [separated([0.5, 0.1, -0.2], count=20, seed=seed) for seed in range(4)]
    network = LinearDiscriminant(3, momentum=0.1)
    for a, b in batches:
        network(a, b)
    gaps = torch.stack([a.mean(0) - b.mean(0) for a, b in batches])
    torch.testing.assert_close(network.gap, gaps.mean(0))  # as long as a batch's share would be below 1 / batches
    for _ in range(20):
        network(*batches[0])
    old, share = network.gap.clone(), 0.1
    network(*batches[1])
    torch.testing.assert_close(network.gap, (1 - share) * old + share * gaps[1])
    assert len(network.state_dict()) == 3  # which a resumed run needs


def test_linear_discriminant_survives_codes_that_say_nothing():
    network = LinearDiscriminant(3)
    codes = torch.ones(4, 3, requires_grad=True)
    value = network(codes, codes)
    value.backward()
    assert value == 0
    assert codes.grad.isfinite().all()


def test_linear_discriminant_takes_averages_over_processes():
    a, b = separated([0.5, 0.1, -0.2], count=20)
    network, seen = LinearDiscriminant(3), []
    value = network(a, b, lambda x: seen.append(x) or 2 * x)
    torch.testing.assert_close(network.gap, 2 * seen[0])
    torch.testing.assert_close(network.covariance, 2 * seen[1])
    assert value.item() == pytest.approx(((a.mean(0) - b.mean(0)) @ network.direction()).item())


def test_linear_erasure_is_the_closed_form():
    """Belrose et al. 2023, equation 1: whiten, project, colour again."""
    a, b = separated([0.5, 0.1, -0.2], count=200)
    network = LinearErasure(3, ridge=0.0)
    network.fit(a, b)
    within = (torch.cov(a.T) + torch.cov(b.T)) / 2
    values, axes = torch.linalg.eigh(within)
    whiten = axes @ torch.diag(values.rsqrt()) @ axes.T
    gap = whiten @ (a.mean(0) - b.mean(0))
    projection = torch.outer(gap, gap) / (gap @ gap)
    middle = (a.mean(0) + b.mean(0)) / 2
    for codes in (a, b):
        expected = codes - (codes - middle) @ (torch.linalg.inv(whiten) @ projection @ whiten).T
        torch.testing.assert_close(network(codes), expected, rtol=1e-3, atol=1e-5)
    erased = network(a), network(b)
    torch.testing.assert_close(erased[0].mean(0), erased[1].mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(network(erased[0]), erased[0], rtol=0, atol=1e-5)  # there is nothing left to take


def test_linear_erasure_is_that_of_its_authors():
    leace = pytest.importorskip("concept_erasure", reason="needs pip install concept-erasure")
    codes = torch.randn(600, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    codes = codes @ torch.randn(12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    a, b = codes[:300] + torch.linspace(-0.5, 1, 12, dtype=torch.float64), codes[300:]
    network = LinearErasure(12, ridge=0.0).double()
    network.fit(a, b)
    truth = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat_interleave(300)
    fitter = leace.LeaceFitter.fit(torch.cat([a, b]), truth, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-9)
    projection = torch.eye(12, dtype=torch.float64) - torch.outer(network.gap, network.w)
    torch.testing.assert_close(projection, fitter.eraser.P, rtol=0, atol=1e-9)
    torch.testing.assert_close(network.mean, fitter.eraser.bias, rtol=0, atol=1e-9)
    torch.testing.assert_close(network(a), fitter.eraser(a).float(), rtol=1e-5, atol=1e-5, check_dtype=False)


def test_linear_erasure_blinds_a_linear_classifier():
    a, b = separated([0.5, 0.3, -0.2], count=400)
    network = LinearErasure(3)
    torch.testing.assert_close(network(a), a)  # it has learned nothing yet
    network.fit(a, b)
    truth = torch.tensor([1, 0]).repeat_interleave(400).numpy()

    def accuracy(x, y):
        codes = torch.cat([x, y]).numpy()
        return LinearDiscriminantAnalysis(solver="lsqr").fit(codes, truth).score(codes, truth)

    assert accuracy(a, b) > 0.9
    assert accuracy(network(a), network(b)) < 0.55


def test_linear_erasure_leaves_codes_that_say_nothing():
    network, codes = LinearErasure(3), torch.ones(4, 3)
    network.fit(codes, codes)
    torch.testing.assert_close(network(codes), codes)


def smoothed(x):
    """Mean over 3x3 pixels, of those inside the image."""
    inside = ndimage.uniform_filter(np.ones_like(x), 3, mode="constant")
    return ndimage.uniform_filter(x, 3, mode="constant") / inside


def test_regions_are_where_translations_change_images_and_contents_vary():
    """Against SciPy's filters, whose windows are cut by hand where they leave the image."""
    random = np.random.default_rng(0)
    change = random.normal(size=(3, 12, 12)).astype(np.float32)
    deviations = random.uniform(size=(2, 12, 12)).astype(np.float32) + np.linspace(0, 1, 12, dtype=np.float32)
    deviations[1] = 9 * deviations[1, ::-1, ::-1]
    network, x, mean = ContentRegions(3, 12, 5, 0.6), torch.rand(2, 3, 12, 12), torch.rand(3, 12, 12)
    network.fit(torch.from_numpy(change), torch.from_numpy(deviations), mean)

    gap = smoothed(np.abs(change).max(0))
    content = gap > 0.6 * gap.max()
    first, second = (y / y.max() for y in map(smoothed, deviations))
    wide = [
        ndimage.maximum_filter((content & rule).astype(np.float32), 3)
        for rule in (first >= second / 2, second >= first / 2)
    ]
    own = [ndimage.maximum_filter((content & rule).astype(np.float32), 3) for rule in (first > second, second > first)]
    assert 0 < (wide[0] * wide[1]).sum() < min(wide[0].sum(), wide[1].sum())
    masks = {
        "first": (network.within(0), wide[0]),
        "second": (network.within(1), wide[1]),
        "either": (network.within(0, 1), np.maximum(*wide)),
        "both": (network.overlap(), wide[0] * wide[1]),
        "the first's own": (network.owned_by(0), own[0]),
        "the second's own": (network.owned_by(1), own[1]),
    }
    for name, (mask, expected) in masks.items():
        torch.testing.assert_close(mask[0, 0], torch.from_numpy(smoothed(expected)), rtol=1e-4, atol=1e-5, msg=name)
    hidden = torch.from_numpy(smoothed(own[1]))
    torch.testing.assert_close(network.seen_by(0, x), x + hidden * (mean - x), rtol=1e-4, atol=1e-5)


def test_decoder_takes_codes_of_another_length():
    decoder = CodeDecoder(3, 16, 4, inputs=5)
    size = decoder.shape[1]
    assert decoder(torch.zeros(2, 5 * size * size)).shape == (2, 3, 16, 16)
