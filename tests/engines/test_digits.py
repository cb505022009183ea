"""The street digits: every picture is a pure function of seed and index."""

import pytest
import torch

from xdomain.engines import digits as engine
from xdomain.engines.digits import render_street
from xdomain.engines.drawing import Draws, splitmix64

COUNT = 12


@pytest.fixture(scope="module")
def pictures():
    return render_street(torch.arange(COUNT), seed=3)


@pytest.mark.parametrize("batch", [1, 5])
def test_pictures_do_not_depend_on_the_batch(pictures, batch):
    images, labels = pictures
    for part in torch.arange(COUNT).split(batch):
        again, again_labels = render_street(part, seed=3)
        assert torch.equal(again, images[part])
        assert torch.equal(again_labels, labels[part])


def test_pictures_do_not_depend_on_the_order(pictures):
    order = torch.randperm(COUNT)
    images, labels = render_street(order, seed=3)
    assert torch.equal(images, pictures[0][order])
    assert torch.equal(labels, pictures[1][order])


def test_pictures_do_not_depend_on_the_chunks(pictures, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 7)
    assert torch.equal(render_street(torch.arange(COUNT), seed=3)[0], pictures[0])


def test_drawing_neither_reads_nor_moves_the_global_random_state(pictures):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(render_street(torch.arange(COUNT), seed=3)[0], pictures[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_share_no_picture(pictures):
    other, _ = render_street(torch.arange(COUNT), seed=4)
    together = torch.cat([pictures[0], other]).flatten(1)
    assert len(torch.unique(together, dim=0)) == 2 * COUNT


def test_seed_and_index_are_not_interchangeable():
    a, b = (Draws(torch.tensor([i]), seed=s).bits(4) for i, s in ((1, 2), (2, 1)))
    assert not torch.equal(a, b)


def test_labels_are_uniform():
    draw = Draws(torch.arange(20000), seed=0)
    counts = torch.bincount(draw.integers(10), minlength=10).double()
    chi_squared = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_squared < 27.9  # 9 degrees of freedom: p = 0.001
    _, labels = render_street(torch.arange(8), seed=0)
    assert torch.equal(labels, Draws(torch.arange(8), 0).integers(10))


def test_random_values_are_the_reference_generator():
    # splitmix64 of 0 and of 1234567, as published
    assert splitmix64(torch.tensor(0)).item() & (2**64 - 1) == 0xE220A8397B1DCDAF
    assert splitmix64(torch.tensor(1234567)).item() == 6457827717110365317


def test_noise_is_standard():
    noise = Draws(torch.arange(200), 0).noise(500).double()
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert noise.std().item() == pytest.approx(1.0, abs=0.02)
    uniform = Draws(torch.arange(200), 0).uniform(-2.0, 4.0, 500)
    assert -2 <= uniform.min() < -1.99
    assert 3.99 < uniform.max() < 4
    assert uniform.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes_show_the_same_scene(pictures, size):
    images, labels = render_street(torch.arange(COUNT), seed=3, size=size)
    assert images.shape == (COUNT, 3, size, size)
    assert torch.equal(labels, pictures[1])
    small = torch.nn.functional.adaptive_avg_pool2d(images.float(), 8).flatten(1)
    usual = torch.nn.functional.adaptive_avg_pool2d(pictures[0].float(), 8).flatten(1)
    distance = torch.cdist(small, usual)
    assert (distance.argmin(1) == torch.arange(COUNT)).float().mean() > 0.9


def test_pictures_have_contrast(pictures):
    spread = pictures[0].float().flatten(1).std(1)
    assert spread.min() > 5
    assert pictures[0].dtype == torch.uint8


def test_every_glyph_fits_its_tile():
    masks, widths = engine._glyphs()
    assert masks.shape[:2] == widths.shape == (len(engine.FONTS) + engine.HANDS, 10)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert (masks.flatten(2).amax(2) > 0.9).all()
    rows = masks.amax(3) > 0
    assert (rows.sum(2) <= engine.INK_HEIGHT).all()
    assert (rows.sum(2) >= engine.INK_HEIGHT - 2).all()
    columns = (masks.amax(2) > 0).sum(2)
    torch.testing.assert_close(columns.double(), widths * engine.INK_HEIGHT, atol=3.0, rtol=0)
