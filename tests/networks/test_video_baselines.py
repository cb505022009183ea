"""Generators of the video baselines: one way through for random clips and reconstructions."""

import pytest
import torch
from torch.nn import functional as F

from xdomain.networks.video_baselines import FeatureLevels, PictureLevels

SIZES = [(2, 5, 6), (3, 7, 8), (4, 9, 10)]


def noises(G, count):
    return [torch.randn(count, *G.noise_shape(i, size)) for i, size in enumerate(SIZES)]


@pytest.mark.parametrize(("kind", "margin", "channels"), [(PictureLevels, 3, 3), (FeatureLevels, 2, 4)])
def test_random_clips_and_reconstructions_do_not_meet(kind, margin, channels):
    torch.manual_seed(0)
    G = kind(3, width=4, layers=margin)
    assert G.noise_shape(0, SIZES[0]) == (3, 2, 5, 6)
    assert G.noise_shape(2, SIZES[2]) == (channels, 4 + 2 * margin, 9 + 2 * margin, 10 + 2 * margin)
    z, drawn = torch.randn(3, 3, *SIZES[0]), noises(G, 2)
    both = G.picture(G.climb(z, drawn, SIZES, 0, 2))
    assert both.shape == (3, 3, *SIZES[2])
    assert both.abs().max() < 1
    random = G.picture(G.climb(z[:2], drawn, SIZES, 0, 2))
    rec = G.picture(G.climb(z[2:], noises(G, 0), SIZES, 0, 2))
    torch.testing.assert_close(both, torch.cat([random, rec]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "layers"), [(PictureLevels, 3), (FeatureLevels, 2)])
def test_the_way_can_be_interrupted(kind, layers):
    torch.manual_seed(0)
    G = kind(3, width=4, layers=layers)
    z, drawn = torch.randn(1, 3, *SIZES[0]), noises(G, 1)
    half = G.climb(z, drawn, SIZES, 0, 1)
    torch.testing.assert_close(G.climb(half, drawn, SIZES, 2, 2), G.climb(z, drawn, SIZES, 0, 2))
    assert G.climb(z, drawn, SIZES, 0, -1) is z


def up(x, size):
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=True)


def test_pictures_go_through_tanh_between_the_levels():
    torch.manual_seed(0)
    G = PictureLevels(2, width=4, layers=3)
    z, drawn = torch.randn(1, 3, *SIZES[0]), noises(G, 1)
    first = G.levels[0](F.pad(z, [3] * 6)).tanh()
    wide = up(first, [side + 6 for side in SIZES[1]]) + drawn[1]
    expected = (G.levels[1](wide) + up(first, SIZES[1])).tanh()
    torch.testing.assert_close(G.picture(G.climb(z, drawn, SIZES, 0, 1)), expected)


def test_features_have_a_head_and_a_tail():
    torch.manual_seed(0)
    G = FeatureLevels(2, width=4, layers=2)
    z = torch.randn(1, 3, *SIZES[0])
    first = G.levels[0](F.pad(G.head(F.pad(z, [1] * 6)), [2] * 6))
    kept = up(first, SIZES[1])
    expected = G.tail(F.pad(G.levels[1](F.pad(kept, [2] * 6)) + kept, [1] * 6)).tanh()
    torch.testing.assert_close(G.picture(G.climb(z, noises(G, 0), SIZES, 0, 1)), expected)
