"""Every engine whose pictures are kept has a version, which must change with them."""

import pytest
import torch

from xdomain.engines import avatars, digits, facades, glyphs, performance, polygons, seasons


def draw_avatars():
    u = avatars.draw_parameters(torch.arange(8), torch.zeros(8, dtype=torch.int64), 0)
    return torch.cat([avatars.render(u, 16, style) for style in ("photo", "emoji")])


def draw_facades():
    u = facades.draw_parameters(torch.arange(8), 0)
    return torch.cat([facades.render(u, 16), facades.labels_to_rgb(facades.render_labels(u, 16))])


def draw_seasons():
    u = seasons.draw_parameters(torch.arange(8), 0)
    return torch.cat([seasons.render(u, 16, season) for season in ("summer", "winter")])


def draw_performance():
    return avatars.render(torch.cat([performance.perform(person, 76)[::25] for person in (7, 15)]), 16)


def draw_digits():
    return digits.render_street(torch.arange(16), seed=0, size=16)[0]


def draw_glyphs():
    return glyphs.render(glyphs.draw_parameters(torch.arange(16), 0), 16)


def draw_polygons():
    u = polygons.draw_parameters(torch.arange(8), 0)
    return torch.cat([polygons.render(u, 16), polygons.render_photo(u, torch.arange(8), 1, 16)])


DRAWN = {
    "avatars": (avatars, draw_avatars, 1),
    "digits": (digits, draw_digits, 1),
    "facades": (facades, draw_facades, 1),
    "performance": (performance, draw_performance, 1),
    "glyphs": (glyphs, draw_glyphs, 1),
    "polygons": (polygons, draw_polygons, 2),
    "seasons": (seasons, draw_seasons, 1),
}
MEANS = {
    "avatars": [
        *(133.71, 70.8, 112.71, 106.05, 65.42, 142.88, 87.75, 105.13),
        *(186.74, 167.45, 191.03, 162.9, 174.98, 202.5, 177.77, 143.61),
    ],
    "digits": [
        *(34.99, 184.65, 131.55, 31.94, 210.87, 82.44, 35.75, 190.8),
        *(158.73, 55.66, 132.91, 88.51, 128.03, 50.28, 186.26, 81.74),
    ],
    "facades": [
        *(119.26, 145.28, 89.57, 102.22, 142.64, 87.0, 129.72, 127.16),
        *(101.96, 101.62, 100.44, 91.12, 91.73, 99.01, 101.75, 98.34),
    ],
    "performance": [124.61, 124.09, 123.9, 124.67, 81.99, 81.82, 81.78, 81.97],
    "glyphs": [
        *(16.13, 36.23, 26.73, 28.28, 50.69, 8.2, 33.55, 27.67),
        *(44.36, 38.86, 21.19, 53.08, 40.33, 38.74, 26.0, 37.27),
    ],
    "polygons": [
        *(243.14, 226.5, 231.57, 243.54, 235.55, 228.58, 243.8, 209.95),
        *(174.86, 145.22, 149.85, 165.14, 155.23, 139.89, 167.6, 147.16),
    ],
    "seasons": [
        *(101.43, 99.5, 116.91, 119.02, 105.78, 78.48, 95.68, 115.32),
        *(163.05, 179.36, 185.5, 188.32, 185.52, 151.43, 150.52, 196.94),
    ],
}


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_change_only_with_the_version(name):
    """Means of 16 pictures: where they differ, raise VERSION of the engine and put the new ones here."""
    engine, draw, version = DRAWN[name]
    assert draw().float().mean((1, 2, 3)).tolist() == pytest.approx(MEANS[name], abs=0.02)
    assert version == engine.VERSION
