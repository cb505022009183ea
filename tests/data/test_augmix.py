"""AugMix: its operations against Pillow, its mixtures against their law; torchvision's transforms image by image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from xdomain.data import AugMix, EachImage
from xdomain.data.augmix import OPERATIONS

LEVELS = (0.01, 0.07, 0.11, 0.2, 0.29)  # of severity 3: from 0.1 to 3 of 10


def picture():
    rng = np.random.default_rng(0)
    soft = np.asarray(Image.fromarray(rng.integers(20, 230, (6, 6, 3), dtype=np.uint8)).resize((32, 32), 3))
    return Image.fromarray(soft)


def moved(image, matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


PILLOW = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, 4 - int(level * 4)),
    "rotate": lambda image, level, sign: image.rotate(sign * int(level * 30), resample=Image.Resampling.BILINEAR),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(level * 256)),
    "shear_x": lambda image, level, sign: moved(image, (1, sign * level * 0.3, 0, 0, 1, 0)),
    "shear_y": lambda image, level, sign: moved(image, (1, 0, 0, sign * level * 0.3, 1, 0)),
    "translate_x": lambda image, level, sign: moved(image, (1, 0, sign * int(level * 32 / 3), 0, 1, 0)),
    "translate_y": lambda image, level, sign: moved(image, (1, 0, 0, 0, 1, sign * int(level * 32 / 3))),
}
"""The operations as the authors' code calls them."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pillow(name):
    image = picture()
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    levels = torch.tensor([level for level in LEVELS for _ in range(2)], dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * len(LEVELS), dtype=torch.float64)
    found = OPERATIONS[name](x.expand(len(levels), -1, -1, -1), levels, signs)
    for i, (level, sign) in enumerate(zip(levels.tolist(), signs.tolist(), strict=True)):
        expected = torch.from_numpy(np.array(PILLOW[name](image, level, int(sign)))).permute(2, 0, 1).float()
        assert float((found[i] - expected).abs().max()) <= 1


def test_views_are_in_range_differ_and_depend_on_the_seed_alone():
    images = torch.rand(16, 3, 32, 32) * 2 - 1
    views = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        views.append(AugMix()(images))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert views[0].shape == images.shape
    assert float(views[0].abs().max()) <= 1 + 1e-6
    changes = (views[0] - images).abs().mean((1, 2, 3))
    assert len(changes.round(decimals=4).unique()) > 12


def test_mixture_of_the_chains_and_the_image(monkeypatch):
    """With one operation that makes an image white, a view is image + share (white - image), share by Beta(1, 1)."""
    monkeypatch.setattr("xdomain.data.augmix.OPERATIONS", {"white": lambda x, level, sign: torch.full_like(x, 255)})
    images = torch.full((2000, 1, 2, 2), -0.5)
    torch.manual_seed(0)
    share = (AugMix()(images)[:, 0, 0, 0] + 0.5) / 1.5
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)  # weights of the chains sum to 1
    assert float(share.var()) == pytest.approx(1 / 12, abs=0.005)


def test_chains_have_one_to_three_operations(monkeypatch):
    counts = []

    def count(x, level, sign):
        counts.append(len(x))
        assert 0.01 <= float(level.min()) <= float(level.max()) <= 0.3
        return x

    monkeypatch.setattr("xdomain.data.augmix.OPERATIONS", {"count": count})
    AugMix()(torch.zeros(3000, 1, 1, 1))
    for chain in range(3):
        first, second, third = counts[3 * chain : 3 * chain + 3]
        assert first == 3000
        assert second == pytest.approx(2000, abs=150)
        assert third == pytest.approx(1000, abs=150)


def test_every_image_has_its_own_parameters():
    transform = EachImage([v2.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0), value=0)])
    torch.manual_seed(0)
    erased = transform(torch.ones(12, 3, 16, 16)) == 0
    assert erased.flatten(1).sum(1).tolist() == [3 * 8 * 8] * 12
    assert len(erased.unique(dim=0)) > 8
