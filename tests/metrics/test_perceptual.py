"""Perceptual, content and style distances against formulas written out in numpy, and LPIPS against torchmetrics."""

import numpy as np
import pytest
import torch
import torchvision
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from xdomain.errors import UserError
from xdomain.features.random_conv import RandomConv
from xdomain.metrics.base import Count
from xdomain.metrics.perceptual import LPIPS, ContentDistance, GramStyleDistance, PerceptualDistance, gram

LAYERS = ["1", "3"]


@pytest.fixture(scope="module")
def extractor():
    return RandomConv()


@pytest.fixture(scope="module")
def pairs():
    coarse = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=(24, 16), mode="bilinear")
    return images[:6], images[6:]


def make(kind, extractor):
    return {
        "lpips": lambda: PerceptualDistance(extractor, LAYERS),
        "content": lambda: ContentDistance(extractor, "3"),
        "style": lambda: GramStyleDistance(extractor, LAYERS),
    }[kind]()


def value(metric, real, fake):
    metric.reset()
    metric.update(real, fake)
    return metric.compute().item()


def perceptual(x, y):
    x, y = (z / np.sqrt((z**2).sum(0)) for z in (x, y))
    return ((x - y) ** 2).sum(0).mean()


def content(x, y):
    return ((x - y) ** 2).mean()


def style(x, y):
    x, y = (np.einsum("ahw,bhw->ab", z, z) / z.size for z in (x, y))
    return ((x - y) ** 2).mean()


@pytest.mark.parametrize(
    ("kind", "formula", "layers", "name"),
    [
        ("lpips", perceptual, LAYERS, "lpips-uniform@random-conv"),
        ("content", content, ["3"], "content@random-conv/3"),
        ("style", style, LAYERS, "style@random-conv"),
    ],
)
def test_distances_are_their_formulas(kind, formula, layers, name, extractor, pairs):
    maps = [[extractor.maps(images, layer).double().numpy() for layer in layers] for images in pairs]
    expected = np.mean([[formula(x, y) for x, y in zip(*layer, strict=True)] for layer in zip(*maps, strict=True)])
    metric = make(kind, extractor)
    assert value(metric, *pairs) == pytest.approx(expected, rel=1e-5)
    assert metric.name == name
    assert metric.n == Count(6, 6)


KINDS = pytest.mark.parametrize("kind", ["lpips", "content", "style"])


@KINDS
def test_distances_grow_with_noise(kind, extractor, pairs):
    noise = torch.randn(pairs[0].shape, generator=torch.Generator().manual_seed(0))
    values = [value(make(kind, extractor), pairs[0], pairs[0] + s * noise) for s in (0, 0.05, 0.1, 0.2, 0.4)]
    assert values[0] == 0
    assert values == sorted(set(values))


@KINDS
def test_values_outside_the_range_are_clamped(kind, extractor, pairs):
    wild = pairs[1] * 4
    assert value(make(kind, extractor), pairs[0], wild) == value(make(kind, extractor), pairs[0], wild.clamp(-1, 1))


@KINDS
def test_order_batches_and_processes_do_not_matter(kind, extractor, pairs):
    real, fake = pairs
    whole = make(kind, extractor)
    expected = value(whole, real, fake)
    order = torch.randperm(6)
    assert value(make(kind, extractor), real[order], fake[order]) == pytest.approx(expected, rel=1e-5)
    half, other = make(kind, extractor), make(kind, extractor)
    half.update(real[:1], fake[:1])
    other.update(real[1:], fake[1:])
    half.merge_state(other)
    assert half.compute().item() == pytest.approx(expected, rel=1e-5)
    assert half.n == Count(6, 6)


@KINDS
def test_one_real_image_serves_all(kind, extractor, pairs):
    real, fake = pairs
    expected = value(make(kind, extractor), real[:1].expand(6, -1, -1, -1), fake)
    assert value(make(kind, extractor), real[:1], fake) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="2 real and 6 generated images are no pairs"):
        make(kind, extractor).update(real[:2], fake)


def test_style_does_not_know_places_but_content_does(extractor, pairs):
    """Tiling an image shifts it and changes its size, but hardly its texture."""
    texture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    small, large = texture.repeat(1, 1, 6, 6), texture.repeat(1, 1, 6, 8).roll(3, 3)
    style = GramStyleDistance(extractor, ["1", "2"])
    assert value(style, small, large) < 0.02 * value(style, small, torch.rand_like(small) - 0.5)
    with pytest.raises(ValueError, match="compares images of one size"):
        ContentDistance(extractor, "2").update(small, large)


def test_gram_matrix_of_a_known_map():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    assert gram(maps).tolist() == [[[5 / 4, 11 / 4], [11 / 4, 25 / 4]]]


def test_all_layers_count_by_default(extractor, pairs):
    every = value(PerceptualDistance(extractor), *pairs)
    single = [value(PerceptualDistance(extractor, [layer]), *pairs) for layer in extractor.layers]
    assert every == pytest.approx(np.mean(single), rel=1e-5)


def test_nothing_seen_is_an_error(extractor):
    metric = ContentDistance(extractor, "1")
    metric._update_count = 1
    with pytest.raises(ValueError, match="content@random-conv/1 has seen no pair"):
        metric.compute()


def test_lpips_takes_weights_from_the_cache_and_downloads_none(monkeypatch, tmp_path, pairs):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"weights for LPIPS are not at .*squeezenet1_1-b8a52dc0.pth: put https://"):
        LPIPS("squeeze")
    (tmp_path / "checkpoints").mkdir()
    network = torchvision.models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    state = torch.get_rng_state()
    metric = LPIPS("squeeze")
    assert torch.equal(torch.get_rng_state(), state)
    real, fake = (torch.nn.functional.interpolate(images, size=(48, 48)) for images in pairs)
    fake = 2 * fake
    theirs = learned_perceptual_image_patch_similarity(real, fake.clamp(-1, 1), net_type="squeeze")
    assert value(metric, real, fake) == pytest.approx(theirs.item(), rel=1e-5)
    assert value(metric, real, real) == 0
    assert value(metric, real[:1], fake[:2]) > 0
    assert value(metric, real[:, :1], fake[:, :1]) > 0
    assert metric.name == "lpips@squeeze"
    assert metric.n == Count(6, 6)
    assert not list(metric.parameters())
