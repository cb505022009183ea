"""SIFID, SVFID, diversity and copying against scipy, numpy and constructed images."""

import numpy as np
import pytest
import scipy.linalg
import torch

from xdomain.features.random_conv import RandomConv
from xdomain.metrics.base import Count
from xdomain.metrics.single import SIFID, SVFID, PatchCopyRate, PixelDiversity


@pytest.fixture(scope="module")
def extractor():
    return RandomConv()


@pytest.fixture(scope="module")
def extractor3d():
    return RandomConv(dims=3)


def smooth(*shape, seed=0):
    coarse = torch.rand(
        shape[0], 3, *[max(2, s // 6) for s in shape[1:]], generator=torch.Generator().manual_seed(seed)
    )
    mode = "bilinear" if len(shape) == 3 else "trilinear"
    return torch.nn.functional.interpolate(coarse * 2 - 1, size=shape[1:], mode=mode)


def value(metric, real, fake):
    metric.reset()
    metric.update(real, fake)
    return metric.compute().item()


def scipy_sifid(extractor, layer, real, fake):
    x, y = (extractor.maps(images[None], layer)[0].flatten(1).double().numpy() for images in (real, fake))
    (mu1, cov1), (mu2, cov2) = ((z.mean(1), np.cov(z)) for z in (x, y))
    return ((mu1 - mu2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * scipy.linalg.sqrtm(cov1 @ cov2).real)


def test_sifid_is_scipys(extractor):
    real, fake = smooth(1, 32, 32), smooth(3, 24, 40, seed=1)
    expected = np.mean([scipy_sifid(extractor, "2", real[0], one) for one in fake])
    metric = SIFID(extractor, "2")
    assert value(metric, real, fake) == pytest.approx(expected, rel=1e-4)
    assert metric.name == "sifid@random-conv/2"
    assert metric.n == Count(3, 3)
    assert metric.positions == 240
    pairs = smooth(3, 32, 32, seed=2)
    expected = np.mean([scipy_sifid(extractor, "2", x, y) for x, y in zip(pairs, fake, strict=True)])
    assert value(metric, pairs, fake) == pytest.approx(expected, rel=1e-4)


def test_svfid_is_scipys(extractor3d):
    real, fake = smooth(1, 6, 16, 16), smooth(2, 6, 16, 16, seed=1)
    expected = np.mean([scipy_sifid(extractor3d, "1", real[0], one) for one in fake])
    metric = SVFID(extractor3d, "1")
    assert value(metric, real, fake) == pytest.approx(expected, rel=1e-4)
    assert metric.name == "svfid@random-conv3d/1"
    assert metric.positions == 6 * 16 * 16


def test_networks_for_images_and_for_videos_are_not_mixed_up(extractor, extractor3d):
    with pytest.raises(ValueError, match="sifid needs a network for 2 dimensions, not random-conv3d"):
        SIFID(extractor3d, "1")
    with pytest.raises(ValueError, match="svfid needs a network for 3 dimensions, not random-conv"):
        SVFID(extractor, "1")


def test_fewer_positions_than_channels_are_told(extractor):
    metric = SIFID(extractor, "3")
    real, fake = smooth(1, 32, 32), smooth(2, 32, 32, seed=1)
    with pytest.warns(UserWarning, match="sifid@random-conv/3 rests on 64 positions for 128 channels"):
        assert value(metric, real, fake) > 0
    with pytest.warns(UserWarning, match="64 positions"):
        assert value(metric, real, real) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="needs 2 positions or more"):
        metric.update(real[:, :, :4, :4], fake)


@pytest.mark.parametrize("kind", ["sifid", "svfid"])
def test_distances_behave(kind, extractor, extractor3d):
    def make():
        return SIFID(extractor, "2") if kind == "sifid" else SVFID(extractor3d, "2")

    shape = (20, 28) if kind == "sifid" else (4, 20, 12)
    real = smooth(4, *shape)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    values = [value(make(), real, real + s * noise) for s in (0, 0.05, 0.1, 0.2, 0.4)]
    assert values[0] < 1e-10
    assert values == sorted(values)
    assert value(make(), real, 3 * real) == value(make(), real, (3 * real).clamp(-1, 1))

    fake = real.flip(0) * 0.8
    whole, half, other = make(), make(), make()
    expected = value(whole, real, fake)
    order = torch.randperm(4)
    assert value(make(), real[order], fake[order]) == pytest.approx(expected, rel=1e-5)
    half.update(real[:1], fake[:1])
    other.update(real[1:], fake[1:])
    half.merge_state(other)
    assert half.compute().item() == pytest.approx(expected, rel=1e-5)
    assert half.n == whole.n == Count(4, 4)
    assert half.positions == whole.positions


@pytest.mark.parametrize("shape", [(10, 12), (4, 10, 12)])
def test_diversity_is_numpys(shape):
    real, fake = smooth(1, *shape), smooth(7, *shape, seed=1)
    weights = np.array([0.299, 0.587, 0.114])
    grey_real, grey_fake = (np.einsum("nc...,c->n...", x.numpy(), weights) for x in (real, fake))
    expected = grey_fake.std(0).mean() / grey_real.std()
    metric = PixelDiversity()
    assert value(metric, real, fake) == pytest.approx(expected, rel=1e-5)
    assert metric.name == "diversity"
    assert metric.n == Count(1, 7)
    assert value(metric, real, fake.flip(0)) == pytest.approx(expected, rel=1e-5)
    assert value(metric, real, 5 * fake) == value(metric, real, (5 * fake).clamp(-1, 1))
    assert value(metric, 5 * real, fake) == value(metric, (5 * real).clamp(-1, 1), fake)

    half, other = PixelDiversity(), PixelDiversity()
    half.update(real, fake[:2])
    other.update(real, fake[2:4])
    other.update(real, fake[4:])
    half.merge_state(other)
    assert half.compute().item() == pytest.approx(expected, rel=1e-5)
    assert half.n == Count(1, 7)


def test_diversity_of_known_samples():
    real = smooth(1, 12, 12)
    assert value(PixelDiversity(), real, real.expand(5, -1, -1, -1)) == pytest.approx(0, abs=1e-7)
    values = [value(PixelDiversity(), real, real + s * torch.randn(50, 3, 12, 12)) for s in (0.01, 0.05, 0.1)]
    assert values == sorted(values)
    # samples that are shuffles of the image put every grey value anywhere
    order = torch.rand(300, 144).argsort(1)
    shuffled = real.flatten(2).expand(300, -1, -1).gather(2, order[:, None].expand(-1, 3, -1)).view(300, 3, 12, 12)
    assert value(PixelDiversity(), real, shuffled) == pytest.approx(1, abs=0.02)


def test_diversity_needs_one_image_that_is_not_flat():
    image = smooth(2, 12, 12)
    with pytest.raises(ValueError, match="not of 2"):
        PixelDiversity().update(image, image)
    with pytest.raises(ValueError, match="needs 2 samples of an image that is not flat"):
        value(PixelDiversity(), image[:1], image[:1])
    with pytest.raises(ValueError, match="not flat"):
        value(PixelDiversity(), torch.zeros(1, 3, 4, 4), image)


@pytest.fixture(scope="module")
def photo():
    """Structure at several sizes, nowhere flat: no patch looks like another."""
    fine = torch.rand(1, 3, 40, 36, generator=torch.Generator().manual_seed(4)) - 0.5
    return (smooth(1, 40, 36) * 0.6 + fine).clamp(-1, 1)


def brute_force(real, fake, side, threshold, stride):
    real, fake = real.numpy(), fake.numpy()

    def patches(x, step):
        height, width = x.shape[1:]
        rows, columns = range(0, height - side + 1, step), range(0, width - side + 1, step)
        return [x[:, i : i + side, j : j + side] for i in rows for j in columns]

    gallery = np.stack(patches(real, 1))
    near = [np.sqrt(((gallery - one) ** 2).mean((1, 2, 3))).min() < threshold for one in patches(fake, stride)]
    return np.mean(near)


def test_copy_rate_is_the_direct_search(photo):
    fake = photo + torch.linspace(0, 0.5, 36) * torch.randn(2, 3, 40, 36, generator=torch.Generator().manual_seed(1))
    fake = fake.clamp(-1, 1)
    expected = np.mean([brute_force(photo[0], one, 7, 0.1, 3) for one in fake])
    assert 0.1 < expected < 0.9
    for chunk in (5, 1000):
        metric = PatchCopyRate(patch=7, chunk=chunk)
        assert value(metric, photo, fake) == pytest.approx(expected, abs=1e-6)
    assert metric.name == "copied-7px"
    assert metric.n == Count(2, 2)


def test_copies_are_found_wherever_they_are(photo):
    metric = PatchCopyRate(patch=9, stride=1)
    assert value(metric, photo, photo) == 1
    assert value(metric, photo, photo[:, :, 5:30, 7:]) == 1
    halves = torch.cat([photo[:, :, 20:], photo[:, :, :20]], dim=2)  # the seam is in 8 of 32 rows of patches
    assert value(metric, photo, halves) == pytest.approx(24 / 32)


def test_what_is_no_copy_is_not_counted(photo):
    metric = PatchCopyRate(patch=9)
    assert value(metric, photo, torch.rand(2, 3, 40, 36) * 2 - 1) == 0
    pixels = photo.flatten(2)[:, :, torch.randperm(40 * 36)].view_as(photo)
    assert value(metric, photo, pixels) == 0
    assert value(metric, photo, -photo) == 0


def test_copy_rate_falls_with_noise_up_to_the_threshold(photo):
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    soft = photo * 0.5  # away from the ends of the range, where noise is cut off
    rates = [value(PatchCopyRate(patch=9), soft, soft + s * noise) for s in (0, 0.08, 0.1, 0.12, 0.2)]
    assert rates == sorted(rates, reverse=True)
    assert rates[:2] == [1, 1]
    assert rates[3:] == [0, 0]


def test_copy_rate_behaves(photo):
    metric = PatchCopyRate(patch=9)
    wild = photo * 1.3
    assert value(metric, photo, wild) == value(metric, photo, wild.clamp(-1, 1))
    assert value(metric, photo, photo[:, :1]) == value(metric, photo, photo[:, :1].expand(-1, 3, -1, -1))
    fake = torch.cat([photo, -photo, photo])
    assert value(metric, photo, fake) == pytest.approx(2 / 3)
    half, other = PatchCopyRate(patch=9), PatchCopyRate(patch=9)
    half.update(photo, fake[:1])
    other.update(photo, fake[1:])
    half.merge_state(other)
    assert half.compute().item() == pytest.approx(2 / 3)
    assert half.n == Count(3, 3)
    with pytest.raises(ValueError, match="copied-9px needs images of at least 9 pixels"):
        metric.update(photo, photo[:, :, :8])
