"""Augmentations with a probability: what each does, against other formulas, and their gradients."""

import math

import pytest
import torch
from torch.nn import functional as F

from xdomain.errors import UserError
from xdomain.networks import AdaptiveAugment
from xdomain.networks.adaptive_augment import recolour, sample


def images(n=6, channels=3, height=16, width=16, seed=0):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def augment(*transforms, p=1.0, seed=0):
    torch.manual_seed(seed)
    made = AdaptiveAugment(transforms or None)
    made.p.fill_(p)
    return made


def test_images_are_themselves_at_p_0():
    x = images()
    assert augment(p=0.0)(x) is x


def test_sampling_is_grid_sample_with_reflection():
    x, generator = images(height=16, width=12), torch.Generator().manual_seed(1)
    maps = torch.eye(3) + torch.cat([torch.randn(6, 2, 3, generator=generator), torch.zeros(6, 1, 3)], 1)
    grid = F.affine_grid(maps[:, :2], list(x.shape), align_corners=False)
    torch.testing.assert_close(
        sample(x, maps), F.grid_sample(x, grid, padding_mode="reflection", align_corners=False), atol=3e-5, rtol=0
    )


def test_each_image_is_transformed_with_the_probability():
    x = images(4000, 3, 2, 2)
    changed = (augment("contrast", "brightness", "saturation", p=0.3)(x) != x).flatten(1).any(1).float().mean()
    assert abs(changed - (1 - 0.7**3)) < 0.03


def test_flips_and_turns_are_those_of_tensors():
    x = images(40)
    for name, candidates in (
        ("flip", [x, x.flip(3)]),
        ("turn", [torch.rot90(x, turns, (2, 3)) for turns in range(4)]),
    ):
        distance = torch.stack([(augment(name)(x) - other).flatten(1).abs().amax(1) for other in candidates])
        assert distance.amin(0).max() < 1e-5
        assert len(distance.argmin(0).unique()) == len(candidates)


def test_colours_keep_what_they_should():
    x = images(200)
    grey = x.mean(1)
    turned, swapped, saturated = (augment(name)(x) for name in ("hue", "luma", "saturation"))
    for y in (turned, saturated):
        torch.testing.assert_close(y.mean(1), grey, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1), atol=1e-5, rtol=0)
    signs = (swapped.mean(1) / grey).flatten(1).median(1).values
    torch.testing.assert_close(signs.abs(), torch.ones(200), atol=1e-4, rtol=0)
    assert 0.3 < (signs > 0).float().mean() < 0.7
    torch.testing.assert_close(swapped - swapped.mean(1, keepdim=True), x - grey.unsqueeze(1), atol=1e-5, rtol=0)
    shift = augment("brightness")(x) - x
    torch.testing.assert_close(shift, shift[:, :1, :1, :1].expand_as(x), atol=1e-5, rtol=0)
    assert abs(shift[:, 0, 0, 0].std() - 0.2) < 0.03


def test_factors_have_the_deviations_of_the_paper():
    x = images(10_000, 3, 1, 1)
    maps, _ = augment("scale").geometry(x)
    logs = torch.log2(maps[:, 0, 0])
    assert torch.equal(maps[:, 0, 0], maps[:, 1, 1])
    assert abs(logs.mean()) < 0.01
    assert abs(logs.std() - 0.2) < 0.01
    stretched, _ = augment("stretch").geometry(x)
    torch.testing.assert_close(stretched[:, 0, 0] * stretched[:, 1, 1], torch.ones(10_000))
    contrast, _ = augment("contrast").colour(x)
    assert abs(torch.log2(contrast[:, 0, 0]).std() - 0.5) < 0.02


def test_one_of_both_rotations_comes_with_the_probability():
    _, moved = augment("rotation", p=0.36).geometry(images(20_000, 1, 1, 1))
    assert abs(moved.float().mean() - 0.36) < 0.015


def test_grey_images_get_the_mean_of_the_colours():
    x = images(3, 1)
    maps = torch.eye(4).repeat(3, 1, 1)
    maps[:, 0, :3] = 0.5
    expected = (1.5 * x + x + x) / 3
    torch.testing.assert_close(recolour(x, maps), expected)


def test_the_gradient_of_a_transform_is_the_transform_of_the_gradient():
    x, weights = images().requires_grad_(), images(seed=2)
    made = augment("flip", seed=5)
    (gradient,) = torch.autograd.grad((made(x) * weights).sum(), x)
    torch.manual_seed(5)
    torch.testing.assert_close(gradient, made(weights), atol=1e-5, rtol=0)


def test_penalties_have_gradients():
    x = images(2, height=4, width=4).double().requires_grad_()

    def penalty(x):
        made = augment(p=0.7, seed=3)
        (gradient,) = torch.autograd.grad(made(x).pow(3).sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, (x,), eps=1e-5, atol=1e-2, rtol=1e-3)  # maps are float32


def test_angles_are_spread_over_the_circle():
    maps, _ = augment("rotation", p=0.9999).geometry(images(4000, 1, 1, 1))
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0])
    assert (torch.histc(angle, 8, -math.pi, math.pi) / 4000 - 1 / 8).abs().max() < 0.02


def test_a_transform_that_there_is_not():
    with pytest.raises(UserError, match=r"transforms.*mirror.*flip, turn"):
        AdaptiveAugment(["mirror"])
