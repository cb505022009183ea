"""MUNIT against its formulas, and what it shares with DRIT: guides, random styles, interpolation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.methods.domains import score, tiny
from tests.methods.faces import Faces, first_batch, fitted, one_step, owners, pictures
from tests.methods.test_shared_passes import assert_shared, l_judge
from xdomain.batch import to_float, to_uint8
from xdomain.callbacks import SampleGrid
from xdomain.data.images import read_image, write_image
from xdomain.errors import UserError
from xdomain.inference.folder import translate_folder
from xdomain.methods import MUNIT
from xdomain.methods.translation import at_stride
from xdomain.networks import MultiScaleDiscriminator
from xdomain.optim import GANAdam

GOLDEN = {"MUNIT": lambda: (tiny(MUNIT, cycle=10.0, optimizer=GANAdam), Faces())}


def absolute(a, b):
    return (a - b).abs().mean()


@pytest.mark.parametrize("cycle", [0.0, 2.0])
def test_one_draw_of_styles_and_shared_passes_equal_updates_with_passes_of_their_own(cycle, monkeypatch):
    s_x, s_y = (torch.randn(2, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    drawn = iter([s_x, s_y])
    monkeypatch.setattr(torch, "randn_like", lambda _: next(drawn))

    def naive(m, x, y):
        G = m.G

        def xy():
            return G.decode(G.content(x, 0), s_y, 1)

        def yx():
            return G.decode(G.content(y, 1), s_x, 0)

        def generators():
            own_x = G.decode(G.content(x, 0), G.style(x, 0), 0)
            own_y = G.decode(G.content(y, 1), G.style(y, 1), 1)
            loss = 0.5 * (score(m.D_X(yx()), 1) + score(m.D_Y(xy()), 1))
            loss = loss + 10 * (absolute(own_x, x) + absolute(own_y, y))
            loss = loss + 3 * (absolute(G.content(xy(), 1), G.content(x, 0)))
            loss = loss + 3 * (absolute(G.content(yx(), 0), G.content(y, 1)))
            loss = loss + 2 * (absolute(G.style(xy(), 1), s_y) + absolute(G.style(yx(), 0), s_x))
            back_x = G.decode(G.content(xy(), 1), G.style(x, 0), 0)
            back_y = G.decode(G.content(yx(), 0), G.style(y, 1), 1)
            return loss + cycle * (absolute(back_x, x) + absolute(back_y, y))

        return [("d", lambda: l_judge(m.D_X, x, yx()) + l_judge(m.D_Y, y, xy())), ("g", generators)]

    assert_shared(tiny(MUNIT, gan=0.5, content=3.0, style=2.0, cycle=cycle), naive)


def test_every_network_learns_and_every_loss_is_logged():
    updates, logged = one_step(tiny(MUNIT, cycle=10.0))
    assert [(update.name, owners(update.gradients)) for update in updates] == [("d", {"D_X", "D_Y"}), ("g", {"G"})]
    assert logged.keys() >= {"l_gan", "l_reconstruction", "l_content", "l_style", "l_cycle", "l_d", "l_g"}
    x, y = first_batch()
    torch.manual_seed(1)
    m = tiny(MUNIT)
    own = (m.G.decode(m.G.content(z, d), m.G.style(z, d), d) for d, z in enumerate((x, y)))
    expected = sum(absolute(a, b) for a, b in zip(own, (x, y), strict=True))
    assert logged["l_reconstruction"] == pytest.approx(expected.item(), rel=1e-4)


def test_all_scales_of_the_discriminators_count_at_64_pixels():
    D = MultiScaleDiscriminator(3, 4)
    assert [scores.shape[-1] for scores in D(torch.zeros(1, 3, 64, 64))] == [4, 2, 1]


# ---------------------------------------------------------------- what DRIT has, too


def test_a_guide_gives_the_style_and_the_image_the_content():
    m = tiny(MUNIT)
    x, y = pictures(0), pictures(1)
    for source, target, own, other in (("plus", "plain", 0, 1), ("plain", "plus", 1, 0), ("plain", "plain", 1, 1)):
        wanted = m.G.decode(m.G.content(x, own), m.G.style(y, other), other)
        torch.testing.assert_close(m.translate(x, source, target, guide=y), wanted)
    same = m.G.decode(m.G.content(x, 0), m.G.style(x, 0), 0)
    torch.testing.assert_close(m.translate(x, "plus", "plus"), same)
    with pytest.raises(UserError, match="target is elsewhere, which is no domain"):
        m.translate(x, "plus", "elsewhere")


def test_without_a_guide_styles_are_random():
    m, x = tiny(MUNIT), pictures(0)
    torch.manual_seed(5)
    first, second = m.translate(x, "plus", "plain"), m.translate(x, "plus", "plain")
    assert not torch.allclose(first, second, atol=1e-3)
    torch.manual_seed(5)
    wanted = m.G.decode(m.G.content(x, 0), torch.randn(3, 3), 1)
    torch.testing.assert_close(first, wanted)


def test_interpolation_goes_from_the_mean_style_to_the_guides():
    m, x, y = tiny(MUNIT), pictures(0), pictures(1)
    row = m.interpolate(x, "plus", "plain", guide=y, steps=3)
    assert row.shape == (3, 1, 3, 3, 16, 16)
    content, style = m.G.content(x, 0), m.G.style(y, 1)
    for tile, share in enumerate((0, 0.5, 1)):
        torch.testing.assert_close(row[:, 0, tile], m.G.decode(content, share * style, 1))
    with pytest.raises(UserError, match="steps is 1: give a number of tiles from 2 to 100"):
        m.interpolate(x, "plus", "plain", steps=1)


def test_a_folder_with_guides_of_other_sizes_and_other_channels(tmp_path):
    m = tiny(MUNIT, channels=(1, 3))
    rng = np.random.default_rng(0)
    for name, shape in (("in/0.png", (1, 21, 30)), ("in/1.png", (1, 3, 9)), ("guides/0.png", (3, 7, 40))):
        write_image(torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)), tmp_path / name)
    translate_folder(m, tmp_path / "in", tmp_path / "out", guide=tmp_path / "guides")
    style = m.G.style(at_stride(to_float(read_image(tmp_path / "guides/0.png", 3))[None], 4, 16), 1)
    for number, (height, width) in enumerate(((21, 30), (3, 9))):
        padded = at_stride(to_float(read_image(tmp_path / f"in/{number}.png", 1))[None], 4, 8)
        wanted = to_uint8(m.G.decode(m.G.content(padded, 0), style, 1)[0, :, :height, :width])
        assert torch.equal(read_image(tmp_path / f"out/{number}.png", 3), wanted)
    translate_folder(
        m, tmp_path / "in", tmp_path / "row", guide=tmp_path / "guides", task="interpolate", size="model", steps=3
    )
    assert read_image(tmp_path / "row/1.png", 3).shape == (3, 5, 31)  # three tiles of 3x9, and lines around them


def test_grids_have_the_same_random_styles_every_time_and_leave_the_trainings_alone():
    m, data, grid = tiny(MUNIT), Faces(), SampleGrid(count=2)
    m.trainer = SimpleNamespace(datamodule=data)
    before = torch.get_rng_state()
    first = grid.grid(data, m, testing=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(grid.grid(data, m, testing=False), first)
    assert first.shape[1] == 4 * 17 + 1  # there, and reconstructions in the second domain


def test_predictions_need_no_guide():
    run = fitted(tiny(MUNIT))
    predicted = run.predict(run.lightning_module, datamodule=Faces())
    assert predicted[0].image.shape == (4, 3, 16, 16)
