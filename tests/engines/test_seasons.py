"""Seasons: the same place in summer and in winter, and the season is what differs."""

import pytest
import torch
from torch.nn import functional as F

from xdomain.engines import seasons as engine
from xdomain.engines.seasons import SCHEMA, draw_parameters, render

COUNT = 10
SIZE = 64
BOTH = ("summer", "winter")


@pytest.fixture(scope="module")
def u():
    return draw_parameters(torch.arange(COUNT), seed=5)


@pytest.fixture(scope="module")
def pictures(u):
    return {season: render(u, SIZE, season) for season in BOTH}


def with_value(u, name, value):
    u = u.clone()
    u[:, SCHEMA.index(name)] = value
    return u


@pytest.mark.parametrize("season", BOTH)
def test_pictures_depend_on_nothing_but_their_parameters(u, pictures, season, monkeypatch):
    order = torch.randperm(COUNT)
    assert torch.equal(draw_parameters(order, seed=5), u[order])
    assert torch.equal(render(u[order], SIZE, season), pictures[season][order])
    for i in range(3):
        assert torch.equal(render(u[i : i + 1], SIZE, season), pictures[season][i : i + 1])
    monkeypatch.setattr(engine, "CHUNK", 3)
    assert torch.equal(render(u, SIZE, season), pictures[season])
    assert len(torch.unique(pictures[season].flatten(1), dim=0)) == COUNT


def test_every_object_covers_the_same_pixels_in_both_seasons(u):
    layers = [list(engine._layers(engine._Scene(u, SIZE, winter))) for winter in (False, True)]
    for summer, winter in zip(*layers, strict=True):
        assert torch.equal(summer.coverage, winter.coverage)
        for layer in (summer, winter):
            assert layer.coverage.min() >= 0
            assert layer.coverage.max() <= 1
    seen = torch.stack([layer.coverage.amax((1, 2, 3)) for layer in layers[0]])
    assert (seen.amax(1) > 0.2).float().mean() > 0.9  # next to no object is never seen


def test_edges_agree_best_where_they_are(pictures):
    """Any shift of the winter picture has its edges less often where those of the summer picture are."""

    def edges(images):
        grey = images.float().mean(1, keepdim=True)
        rise = (grey[..., 1:, 1:] - grey[..., :-1, 1:]).abs() + (grey[..., 1:, 1:] - grey[..., 1:, :-1]).abs()
        return F.normalize((rise - rise.mean((2, 3), keepdim=True)).flatten(1), dim=1)

    summer = edges(pictures["summer"])
    here = (summer * edges(pictures["winter"])).sum(1).mean()
    assert here > 0.3
    for shift in ((0, 1), (1, 0), (0, -2), (-2, 0)):
        assert (summer * edges(pictures["winter"].roll(shift, (2, 3)))).sum(1).mean() < here - 0.05


@pytest.mark.parametrize("size", [32, 50, 96, 256])
@pytest.mark.parametrize("season", BOTH)
def test_sizes(u, size, season):
    """No value is lost: NaN becomes 0 in a byte, and black does not occur in a landscape."""
    images = render(u[:2], size, season)
    assert (images.dtype, images.shape) == (torch.uint8, (2, 3, size, size))
    assert (images.amax(1) > 5).all()
    small = F.interpolate(images.float(), (16, 16), mode="area")
    same = F.interpolate(render(u[:2], SIZE, season).float(), (16, 16), mode="area")
    assert (small - same).abs().mean() < 8


@pytest.mark.parametrize("winter", [False, True])
def test_colours_are_finite(u, winter):
    for layer in engine._layers(engine._Scene(u, SIZE, winter)):
        assert layer.colour.isfinite().all()
        assert torch.as_tensor(layer.opacity).isfinite().all()
        assert layer.colour.min() > -0.5
        assert layer.colour.max() < 1.6


def test_pictures_are_anti_aliased(u, pictures):
    for season in BOTH:
        double = F.avg_pool2d(render(u, 2 * SIZE, season).float(), 2)
        assert (double - pictures[season].float()).abs().mean((1, 2, 3)).max() < 9


def test_what_a_season_looks_like(u, pictures):
    """Summer is green and rich in contrast, winter pale and nearly grey."""
    ground = {season: images[:, :, 3 * SIZE // 4 :].float() for season, images in pictures.items()}
    summer, winter = (ground[season].mean((2, 3)) for season in BOTH)
    assert (summer[:, 1] > summer[:, 2] + 10).all()
    assert (winter.mean(1) > summer.mean(1) + 30).all()
    assert (winter.amax(1) - winter.amin(1) < 40).all()
    deviation = {season: images.float().std((2, 3)).mean() for season, images in pictures.items()}
    assert deviation["winter"] < 0.85 * deviation["summer"]


def test_no_table_of_colours_turns_summer_into_winter(u, pictures):
    """Pixels of one summer colour have many winter colours, even within the best case of one scene."""
    summer, winter = (images.float() for images in pictures.values())
    for before, after in zip(summer, winter, strict=True):
        colour = (before // 32).flatten(1).T @ torch.tensor([64.0, 8.0, 1.0])
        share = F.one_hot(colour.long(), 512).float()
        means = after.flatten(1) @ share / share.sum(0).clamp(min=1)
        assert (after.flatten(1) - means @ share.T).abs().mean() > 4


def test_the_hour_and_the_layout_are_parameters(u):
    noon, dusk = (render(with_value(u, "hour", hour), SIZE, "summer").float() for hour in (0.0, 1.0))
    sky = slice(0, SIZE // 4)
    assert ((noon - dusk)[:, 2, sky].mean((1, 2)) > 10).all()  # less blue
    few, many = (render(with_value(u, "trees", count), SIZE) for count in (0.0, 3.0))
    assert ((few != many).any(1).float().mean((1, 2)) > 0.002).sum() > COUNT / 2
    with pytest.raises(ValueError, match="no season 'autumn'"):
        render(u, SIZE, "autumn")
