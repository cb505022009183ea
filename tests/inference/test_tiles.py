"""Translations in tiles against those in one piece."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from xdomain.inference import tiles
from xdomain.inference.plain import to_float, to_uint8


@pytest.fixture
def small(monkeypatch):
    """Tiles of 64 pixels that share 32: 12 on either side of a fading of 8."""
    for name, value in (("TILE", 64), ("OVERLAP", 32), ("FADE", 8)):
        monkeypatch.setattr(tiles, name, value)


def network(reach):
    """Halves and doubles twice, without any norm; sees ``reach`` more pixels than about 10 around each."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        *(nn.ReflectionPad2d(1), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, 2, 1), nn.Conv2d(6, 6, 1 + 2 * (reach // 4), padding=reach // 4)),
        *(nn.ConvTranspose2d(6, 6, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(6, 2, 3, 2, 1, 1), nn.Tanh()),
    )
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0, 0.25)

    def run(image):
        with torch.no_grad():
            return layers(torch.from_numpy(image)[None])[0].numpy()

    return run


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(152, 92), (64, 200), (36, 300), (100, 66 + 2)])
def test_tiles_of_a_network_that_sees_less_than_their_margin_are_one_piece(small, shape):
    image, run = noise(*shape), network(0)
    found, expected = tiles.tiled(image, run, 4), to_uint8(run(to_float(image)))
    assert expected.std() > 20
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1  # a convolution of another size rounds differently
    far = tiles.tiled(image, network(16), 4), to_uint8(network(16)(to_float(image)))
    assert np.abs(far[0].astype(int) - far[1]).max() > 1


def test_tiles_that_differ_fade_into_each_other(small):
    """As where a norm takes the statistics of every tile."""
    brightness = iter(np.linspace(-0.9, 0.9, 30))
    image = tiles.tiled(noise(150, 150), lambda x: np.full((1, *x.shape[1:]), next(brightness), np.float32), 4)
    steps = max(np.abs(np.diff(image.astype(int), axis=axis)).max() for axis in (1, 2))
    whole = int(image.max()) - int(image.min())
    assert whole > 100
    assert steps <= whole / 8 + 1


@pytest.mark.parametrize("stride", [1, 4, 32, 96, 256, 1024])
def test_tiles_cover_a_side_and_begin_at_multiples(stride):
    overlap = -(-tiles.OVERLAP // stride) * stride
    for length in (5, 1023, 1024, 1025, 1500, 4000, 9999):
        spans = tiles.spans(length, stride)
        assert (spans[0][0], spans[-1][1]) == (0, length)
        assert all(start % stride == 0 for start, _ in spans)
        assert all(end - start <= max(tiles.TILE, overlap + stride) for start, end in spans)
        assert all(before[1] - after[0] == overlap for before, after in pairwise(spans))
        lengths = np.zeros(length)
        for i, (start, end) in enumerate(spans):
            lengths[start:end] += tiles._weights(end - start, i > 0, i < len(spans) - 1, overlap)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)
