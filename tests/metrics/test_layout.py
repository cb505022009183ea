"""Layout correlation against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from xdomain.metrics import LayoutCorrelation
from xdomain.metrics.base import Count

KINDS = ("luminance", "edges")


def scene(seed, size=(48, 64), count=1):
    """Blobs on a background, some noise."""
    noise = torch.randn(count, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    blobs = torch.nn.functional.interpolate(noise, size, mode="bicubic")
    return (0.4 * blobs + 0.05 * torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))).clamp(
        -1, 1
    )


def value(kind, real, fake, **options):
    metric = LayoutCorrelation(kind, **options)
    metric.update(real, fake)
    return metric.compute().item()


def scipys(kind, real, fake, blur):
    maps = []
    for image in (real, fake):
        grey = np.tensordot([0.299, 0.587, 0.114], image.double().numpy(), 1)
        if kind == "edges":
            grey = np.hypot(*(ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1)))
        sigma = blur * min(grey.shape)
        radius = int(np.ceil(3 * sigma))
        maps.append(ndimage.gaussian_filter(grey, sigma, mode="nearest", radius=radius).ravel())
    return np.corrcoef(*maps)[0, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blur", [1 / 32, 0.1])
def test_is_what_scipy_and_numpy_compute(kind, blur):
    real, fake = scene(0, count=3), (0.5 * scene(0, count=3) + scene(1, count=3)).clamp(-1, 1)
    expected = np.mean([scipys(kind, x, y, blur) for x, y in zip(real, fake, strict=True)])
    metric = LayoutCorrelation(kind, blur)
    metric.update(real[:2], fake[:2])
    metric.update(real[2:], fake[2:])
    assert metric.compute().item() == pytest.approx(expected, abs=1e-5)
    assert (metric.name, metric.n) == (f"layout_{kind}", Count(3, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_colours_brightness_and_contrast_do_not_matter(kind):
    image = 0.5 * scene(2)
    grey = (image * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    for other in (
        image,
        0.5 * image + 0.3,
        1.5 * image - 0.1,
        grey,
        grey * torch.tensor([1.0, 0.2, -0.4]).view(1, 3, 1, 1),
    ):
        assert value(kind, image, other) == pytest.approx(1, abs=1e-4)
    assert value(kind, image, -image) == pytest.approx(-1 if kind == "luminance" else 1, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_patches_have_another_layout(kind):
    values = []
    for seed in range(12):
        image = scene(seed)
        patches = image.unfold(2, 8, 8).unfold(3, 8, 8).reshape(3, 48, 8, 8)
        patches = patches[:, torch.randperm(48, generator=torch.Generator().manual_seed(seed))]
        shuffled = patches.view(3, 6, 8, 8, 8).permute(0, 1, 3, 2, 4).reshape(1, 3, 48, 64)
        values.append(value(kind, image, shuffled))
    assert abs(np.mean(values)) < 0.15
    assert max(map(abs, values)) < 0.6


def test_flat_images_have_no_layout():
    flat = torch.full((1, 3, 20, 20), 0.3)
    for kind in KINDS:
        assert value(kind, flat, scene(0, (20, 20))) == 0
        assert value(kind, flat, flat) == 0


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="layout_edges compares images of one size"):
        value("edges", scene(0), scene(0, (20, 20)))
    assert -1 <= value("edges", scene(0, (3, 3)), scene(1, (3, 3))) <= 1
