"""Sizes of pyramids against the lists that were published or printed by the authors' code."""

import math
from itertools import pairwise

import pytest
import torch

from xdomain.networks.pyramid import (
    consingan_sizes,
    resize,
    resize_clip,
    rmse,
    singan_sizes,
    sizes_like,
    vaegan_frames,
    vaegan_sizes,
    width_at,
)


def test_singan_on_an_image_of_188x250():
    printed = [
        (26, 34),
        (32, 42),
        (40, 53),
        (49, 66),
        (62, 82),
        (77, 102),
        (96, 128),
        (121, 160),
        (151, 200),
        (188, 250),
    ]
    assert singan_sizes(188, 250, guard=False) == printed
    assert singan_sizes(188, 250) == [(25, 34), *printed[1:]]  # 188 (25 / 188) is 25
    assert singan_sizes(250, 188) == [size[::-1] for size in singan_sizes(188, 250)]


def test_singan_shrinks_a_large_image():
    sizes = singan_sizes(366, 585)
    assert (len(sizes), sizes[0], sizes[-1]) == (9, (25, 40), (157, 250))


@pytest.mark.parametrize(
    ("min_size", "printed"),
    [
        (18, [19, 24, 30, 39, 49, 63, 81, 104, 134, 172, 220]),
        (25, [25, 32, 41, 52, 66, 84, 107, 136, 173, 220]),
        (22, [22, 28, 35, 44, 56, 70, 88, 111, 139, 175, 220]),
    ],
)
def test_structural_analogy_at_220_pixels(min_size, printed):
    assert [h for h, _ in singan_sizes(220, 220, min_size, guard=False)] == printed
    assert singan_sizes(220, 220, min_size)[0] == (min_size, min_size)


def test_consingan_is_denser_at_low_resolution():
    dense = [(25, 34), (32, 42), (42, 56), (63, 84), (126, 167), (188, 250)]
    assert consingan_sizes(188, 250) == dense
    geometric = consingan_sizes(1880, 2500, 6, 25, 2500, geometric=True)
    ratios = [b[0] / a[0] for a, b in pairwise(geometric)]
    assert max(ratios) / min(ratios) < 1.05
    assert [h for h, _ in consingan_sizes(100, 100, 2, 25)] == [25, 100]


def test_patch_vaegan_on_frames_of_144x256():
    printed = [33, 41, 51, 65, 81, 102, 129, 162, 204, 256]
    assert [w for _, w in vaegan_sizes(144, 256, guard=False)] == printed
    assert vaegan_sizes(144, 256, guard=False)[0] == (18, 33)
    guarded = vaegan_sizes(144, 256)
    assert guarded[0] == (18, 32)
    assert guarded[-1] == (144, 256)
    assert all(abs(w - p) <= 1 for (_, w), p in zip(guarded, printed, strict=True))
    assert [vaegan_frames(level, 9) for level in range(10)] == [(4, 4)] * 3 + [(5, 3)] * 3 + [(7, 2)] * 3 + [(13, 1)]
    assert [vaegan_frames(level, 4, (2, 1)) for level in range(5)] == [(2, 2)] * 4 + [(3, 1)]
    assert vaegan_frames(0, 0, (2, 1)) == (3, 1)


@pytest.mark.parametrize("arithmetic", [singan_sizes, vaegan_sizes])
def test_neighbours_differ_by_nearly_the_wanted_factor(arithmetic):
    for height, width in ((60, 80), (64, 64), (97, 41), (200, 333)):
        sizes = arithmetic(height, width, 18, 1000)
        steps = [math.sqrt(a[0] * a[1] / b[0] / b[1]) for a, b in pairwise(sizes)]
        assert min(steps) > 0.69
        assert max(steps) < 0.95


@pytest.mark.parametrize(
    ("arithmetic", "arguments", "sentence"),
    [
        (singan_sizes, (25, 100), "25x100 pixels is too small"),
        (singan_sizes, (40, 1000), "40x1000 pixels is too small"),
        (singan_sizes, (50, 50, 25, 250, 1.0), "factor between scales is 1.0"),
        (consingan_sizes, (25, 100), "25x100 pixels is too small"),
        (consingan_sizes, (100, 100, 1), "number of stages is 1"),
        (vaegan_sizes, (100, 32), "100x32 pixels is too narrow"),
        (vaegan_sizes, (100, 64, 32, 256, 0.0), "factor between levels is 0.0"),
    ],
)
def test_impossible_pyramids_are_refused(arithmetic, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        arithmetic(*arguments)


def test_another_size_scales_all_scales_alike():
    sizes = singan_sizes(188, 250)
    assert sizes_like(sizes, sizes[-1]) == sizes
    wide = sizes_like(sizes, (188, 500))
    assert wide[-1] == (188, 500)
    assert all((h, 2 * w) == size for (h, w), size in zip(sizes, wide, strict=True))
    assert sizes_like([(4, 10, 10), (7, 20, 20)], (14, 20, 20)) == [(8, 10, 10), (14, 20, 20)]


def test_width_doubles_every_four_scales():
    assert [width_at(i) for i in range(11)] == [32] * 4 + [64] * 4 + [128] * 3
    assert width_at(8, 16, 16) == 16


def test_resizing_keeps_the_range_and_means():
    torch.manual_seed(0)
    noise = torch.rand(2, 3, 64, 64).sign() * torch.randint(0, 2, (2, 3, 64, 64)).mul(2).sub(1)
    small = resize(noise, (16, 16))
    assert small.abs().max() <= 1
    assert small.std() < 0.3  # antialiased: white noise averages out, picking pixels would keep 1
    flat = torch.full((1, 3, 9, 7), 0.25)
    torch.testing.assert_close(resize(flat, (20, 30)), torch.full((1, 3, 20, 30), 0.25))
    assert resize(flat, (9, 7)) is flat


def test_resizing_a_clip_is_linear_with_fixed_corners():
    ramp = torch.linspace(-1, 1, 5).view(1, 1, 5, 1, 1).expand(1, 1, 5, 3, 4)
    longer = resize_clip(ramp, (9, 3, 4))
    torch.testing.assert_close(longer[0, 0, :, 1, 1], torch.linspace(-1, 1, 9))
    wider = resize_clip(torch.linspace(-1, 1, 4).expand(1, 1, 3, 4), (3, 7))
    torch.testing.assert_close(wider[0, 0, 0], torch.linspace(-1, 1, 7))


def test_rmse():
    assert rmse(torch.tensor([1.0, 2.0]), torch.tensor([4.0, -2.0])) == pytest.approx(math.sqrt(12.5))
