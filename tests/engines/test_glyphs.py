"""Glyphs: what is in the picture is what the parameters say."""

import math

import pytest
import torch
from torch.nn import functional as F

from xdomain.engines import glyphs as engine
from xdomain.engines.glyphs import draw_parameters, render
from xdomain.engines.strokes import FORMS, _distance

COUNT = 20


@pytest.fixture(scope="module")
def u():
    return draw_parameters(torch.arange(COUNT), seed=5)


def made(**values):
    neutral = {"digit": 1, "slant": 0.0, "thickness": 0.2, "scale": 0.6, "x": 0.0, "y": 0.0} | values
    return torch.tensor([[float(neutral[name]) for name in engine.SCHEMA.names]])


@pytest.mark.parametrize("slant", [0.0, 0.4])
def test_the_area_of_a_one_is_that_of_a_pen_stroke(slant):
    thickness, scale, size = 0.2, 0.7, 64
    ink = render(made(slant=slant, thickness=thickness, scale=scale), size).double().sum() / 255 * (2 / size) ** 2
    length = 2 * scale * math.sqrt(1 + slant**2)
    assert ink.item() == pytest.approx(length * thickness + math.pi * thickness**2 / 4, rel=0.01)


def test_ink_is_what_is_near_the_skeleton():
    """Against the slow distance to the skeletons before they were simplified."""
    size = 48
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    grid = torch.stack([*torch.meshgrid(axis, axis, indexing="xy")], dim=-1).double()
    for digit in range(10):
        picture = render(made(digit=digit, slant=0.3, scale=0.65, x=0.05, y=-0.1), size)[0, 0]
        distance = torch.full((size, size), 9.0).double()
        for stroke in FORMS[digit][0]:
            x, y = stroke[:, 0] - 0.3 * stroke[:, 1], stroke[:, 1]
            placed = torch.stack([torch.tensor(x * 0.65 + 0.05), torch.tensor(y * 0.65 - 0.1)], dim=1).numpy()
            distance = torch.minimum(distance, torch.tensor(_distance(grid.numpy(), placed)))
        assert (picture[distance < 0.1 - 1.6 / size] == 255).all()
        assert (picture[distance > 0.1 + 1.6 / size] == 0).all()


def test_offsets_move_the_picture():
    size = 32
    still, moved = (render(made(digit=5, x=x, y=y), size)[0, 0].int() for x, y in ((0.0, 0.0), (2 / 32, -4 / 32)))
    assert (still.roll((-2, 1), (0, 1)) - moved).abs().max() <= 1


def test_digits_can_be_told_apart():
    train, test = draw_parameters(torch.arange(400), seed=0), draw_parameters(torch.arange(100), seed=1)

    def straight(u):
        u = u.clone()
        u[:, 1], u[:, 4:] = 0, 0
        return F.avg_pool2d(render(u, 32).float(), 2).flatten(1)

    pixels, labels = straight(train), train[:, 0].long()
    means = torch.stack([F.normalize(pixels[labels == digit].mean(0), dim=0) for digit in range(10)])
    found = (F.normalize(straight(test)) @ means.T).argmax(1)
    assert (found == test[:, 0].long()).float().mean() > 0.95


def test_edges_are_anti_aliased(u):
    picture = render(u, 32).float()
    difference = (F.avg_pool2d(render(u, 128).float(), 4) - picture).abs()
    assert difference.max() < 25  # where strokes end or meet; a hard edge would be off by 128
    assert difference.mean() < 0.5
    assert torch.unique(picture).numel() > 50


def test_ink_stays_inside_the_picture():
    picture = render(draw_parameters(torch.arange(300), seed=0), 32)
    assert picture[..., [0, -1], :].max() < 150
    assert picture[..., [0, -1]].max() == 0


def test_pictures_depend_on_nothing_but_their_parameters(u, monkeypatch):
    picture = render(u)
    order = torch.randperm(COUNT)
    assert torch.equal(draw_parameters(order, seed=5), u[order])
    assert torch.equal(render(u[order]), picture[order])
    assert torch.equal(render(u[3:4]), picture[3:4])
    monkeypatch.setattr(engine, "CHUNK", 7)
    assert torch.equal(render(u), picture)
    assert picture.shape == (COUNT, 1, 32, 32)
    assert not torch.equal(draw_parameters(torch.arange(COUNT), seed=6), u)
