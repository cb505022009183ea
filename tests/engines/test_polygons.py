"""Polygons: what is in the picture is what the parameters say."""

import math

import pytest
import torch
from torch.nn import functional as F

from xdomain.engines.polygons import SCHEMA, VERTICES, draw_parameters, render, render_photo

COUNT = 16
SIZE = 64


@pytest.fixture(scope="module")
def u():
    return draw_parameters(torch.arange(COUNT), seed=5)


def coverage(u, size=SIZE):
    """Share of every pixel inside of the shape, measured on a black one, float64 [n, size, size]."""
    black = u.clone()
    black[:, -3:] = 0
    return 1 - render(black, size)[:, 0].double() / 255


def axes(size=SIZE):
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    return axis.view(1, 1, -1), axis.view(1, -1, 1)


def test_area_is_the_closed_form(u):
    n = torch.tensor(VERTICES)[u[:, 0].long()].double()
    expected = n / 2 * u[:, 1].double() ** 2 * (2 * math.pi / n).sin()
    measured = coverage(u).sum((1, 2)) * (2 / SIZE) ** 2
    torch.testing.assert_close(measured, expected, rtol=0.01, atol=0)


def test_centroid_is_the_centre(u):
    mass = coverage(u)
    for axis, name in zip(axes(), ("x", "y"), strict=True):
        centroid = (mass * axis).sum((1, 2)) / mass.sum((1, 2))
        torch.testing.assert_close(centroid.float(), u[:, SCHEMA.index(name)], atol=0.002, rtol=0)


def test_vertices_and_rotation_are_the_harmonics_of_the_outline(u):
    size = 128
    mass = coverage(u, size)
    x, y = axes(size)
    for i in range(COUNT):
        angle = torch.atan2(y - u[i, 4], x - u[i, 3])[0].double()
        waves = [torch.polar(torch.ones_like(angle), k * angle) for k in range(2, 9)]
        harmonics = torch.stack([(mass[i] * wave).sum() for wave in waves])
        n = int(harmonics.abs().argmax()) + 2
        assert n == VERTICES[int(u[i, 0])]
        period = 2 * math.pi / n
        error = (harmonics[n - 2].angle() / n - u[i, 2].double()) % period
        assert min(error, period - error) < 0.02


def test_colours(u):
    picture = render(u, SIZE)
    inside, outside = coverage(u) == 1, coverage(u) == 0
    for i in range(COUNT):
        fill = (u[i, -3:] * 255).round().byte()[:, None]
        assert (picture[i][:, inside[i]].int() - fill.int()).abs().max() <= 1
        assert (picture[i][:, outside[i]] == 255).all()


def test_edges_are_anti_aliased(u):
    fine = F.avg_pool2d(coverage(u[:4], 5 * SIZE), 5)
    assert (fine - coverage(u[:4])).abs().max() < 0.04
    assert torch.unique(coverage(u)).numel() > 50
    assert (F.avg_pool2d(render(u, 2 * SIZE).float(), 2) - render(u, SIZE).float()).abs().max() < 6


def test_shapes_stay_inside_the_picture():
    mass = coverage(draw_parameters(torch.arange(200), seed=0), 32)
    assert mass[:, [0, -1]].amax() < 0.3
    assert mass[:, :, [0, -1]].amax() < 0.3


def test_pictures_depend_on_nothing_but_their_parameters(u):
    order = torch.randperm(COUNT)
    index = torch.arange(COUNT)
    assert torch.equal(draw_parameters(order, seed=5), u[order])
    flat, photo = render(u), render_photo(u, index, seed=1)
    assert torch.equal(render(u[order]), flat[order])
    assert torch.equal(render_photo(u[order], order, seed=1), photo[order])
    for i in range(3):
        assert torch.equal(render(u[i : i + 1]), flat[i : i + 1])
        assert torch.equal(render_photo(u[i : i + 1], index[i : i + 1], seed=1), photo[i : i + 1])


def test_photos_show_the_same_shape_differently(u):
    index = torch.arange(COUNT)
    photo, other = render_photo(u, index, seed=1).float(), render_photo(u, index, seed=2).float()
    assert (photo - other).abs().mean((1, 2, 3)).min() > 5
    inner = u.clone()
    inner[:, 1] *= 0.5  # leaves out the outline and the blur
    mask = coverage(inner)[:, None].float()
    mean = (photo * mask).sum((2, 3)) / mask.sum((2, 3))
    assert (mean / 255 - u[:, -3:]).abs().max() < 0.08
    assert (photo[..., 0, 0] - photo[..., -1, -1]).abs().mean() > 10  # the ground is no longer plain


def test_other_sizes():
    u = draw_parameters(torch.arange(3), seed=0)
    assert render(u, 20).shape == render_photo(u, torch.arange(3), 0, 20).shape == (3, 3, 20, 20)
