"""Clips: they move, smoothly, and not everywhere alike."""

import pytest
import torch
from torch.nn import functional as F

from xdomain.engines.clips import KINDS, render_clip

HEIGHT, WIDTH = 48, 64


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def clip(kind):
    return render_clip(kind, 30, HEIGHT, WIDTH, seed=1)


def apart(clip, step):
    f = clip.float()
    return (f[step:] - f[:-step]).abs().mean((1, 2, 3))


def test_shape_and_determinism(kind, clip):
    assert clip.shape == (30, 3, HEIGHT, WIDTH)
    assert clip.dtype == torch.uint8
    assert torch.equal(render_clip(kind, 2, HEIGHT, WIDTH, seed=1), clip[:2])
    assert (render_clip(kind, 1, HEIGHT, WIDTH, seed=2).float() - clip[:1]).abs().mean() > 5
    assert clip.float().std((0, 2, 3)).min() > 10


def test_motion_is_smooth(clip):
    near, far = apart(clip, 1), apart(clip, 12)
    assert near.min() > 0.3
    assert near.mean() < 8
    assert far.mean() > 2.5 * near.mean()
    f = clip.float()
    surprise = (f[1:-1] - (f[2:] + f[:-2]) / 2).abs().mean()
    assert surprise < 0.6 * near.mean()  # 0.87 for frames that have nothing to do with each other


def test_nothing_jumps(kind):
    steps = apart(render_clip(kind, 45, 24, 32, seed=3), 1)  # long enough for rings and sparks to begin anew
    around = torch.maximum(steps[2:], steps[:-2])
    assert (steps[1:-1] / around).max() < 1.5


def test_regions_move_differently(clip):
    activity = (clip[1:].float() - clip[:-1].float()).abs().mean((0, 1))
    blocks = F.avg_pool2d(activity[None], 8).flatten()
    assert blocks.max() > 5 * blocks.quantile(0.1)


def test_balloons_fly_at_different_speeds():
    """Block matching: the displacement that explains a block best, where one does clearly."""
    clip = render_clip("balloons", 7, 96, 128, seed=1).float()
    first, later = clip[0], F.pad(clip[6], (8, 8, 8, 8), value=1e4)
    found = set()
    for y in range(0, 96, 12):
        for x in range(0, 128, 12):
            block = first[:, y : y + 12, x : x + 12]
            if block.std() < 40:
                continue
            h, w = block.shape[1:]
            errors = {
                (dx, dy): (later[:, y + 8 + dy :, x + 8 + dx :][:, :h, :w] - block).abs().mean()
                for dx in range(-8, 9)
                for dy in range(-4, 5)
            }
            (dx, _), error = min(errors.items(), key=lambda item: item[1])
            if error < 15:
                found.add(dx)
    assert len(found) >= 3, found
    assert max(found) - min(found) >= 3


def test_sizes():
    for kind in KINDS:
        assert render_clip(kind, 1, 17, 40, seed=0).shape == (1, 3, 17, 40)
        small, large = (render_clip(kind, 1, size, size, seed=0).float() for size in (32, 64))
        assert (F.avg_pool2d(large, 2) - small).abs().mean() < 6


def test_unknown_kind():
    with pytest.raises(ValueError, match="'lava', only water, fire, balloons"):
        render_clip("lava", 1, 8, 8, seed=0)
