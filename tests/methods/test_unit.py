"""UNIT against its formulas."""

import copy

import pytest
import torch

from tests.methods.domains import score, tiny
from tests.methods.faces import Faces, assert_gradients, first_batch, one_step, owners, pictures
from xdomain.errors import UserError
from xdomain.methods import UNIT
from xdomain.optim import GANAdam

GOLDEN = {"UNIT": lambda: (tiny(UNIT, optimizer=GANAdam), Faces())}


def test_unit_judges_one_draw_of_noise_in_both_updates(monkeypatch):
    method = tiny(UNIT, share=1, reconstruction=3.0, cycle=2.0, kl=0.5)
    m = copy.deepcopy(method)
    noise = [torch.randn(4, 16, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    drawn = iter(noise)
    monkeypatch.setattr(torch, "randn_like", lambda _: next(drawn))
    updates, logged = one_step(method)
    x, y = first_batch()
    h_x, h_y = m.G.encode(x, 0), m.G.encode(y, 1)
    c_x, c_y = h_x + noise[0], h_y + noise[1]
    xy, yx = m.G.decode(c_x, 1), m.G.decode(c_y, 0)
    judged = score(m.D_X(x), 1) + score(m.D_X(yx.detach()), 0) + score(m.D_Y(y), 1) + score(m.D_Y(xy.detach()), 0)
    assert [update.name for update in updates] == ["d", "g"]
    assert_gradients(updates[0].gradients, judged, m, noise=1e-4)
    new = updates[1].state
    for name in ("D_X", "D_Y"):
        getattr(m, name).load_state_dict({k.removeprefix(f"{name}."): v for k, v in new.items() if k.startswith(name)})
    k_x, k_y = m.G.encode(xy, 1), m.G.encode(yx, 0)
    losses = {
        "l_gan": score(m.D_X(yx), 1) + score(m.D_Y(xy), 1),
        "l_reconstruction": (m.G.decode(c_x, 0) - x).abs().mean() + (m.G.decode(c_y, 1) - y).abs().mean(),
        "l_cycle": (m.G.decode(k_x + noise[2], 0) - x).abs().mean() + (m.G.decode(k_y + noise[3], 1) - y).abs().mean(),
        "l_kl": sum((code**2).mean() for code in (h_x, h_y, k_x, k_y)),
    }
    assert {name: logged[name] for name in losses} == pytest.approx({n: v.item() for n, v in losses.items()}, rel=1e-4)
    total = losses["l_gan"] + 3 * losses["l_reconstruction"] + 2 * losses["l_cycle"] + 0.5 * losses["l_kl"]
    assert owners(updates[1].gradients) == {"G"}
    assert_gradients(updates[1].gradients, total, m, noise=1e-4)


def test_unit_translates_without_noise_through_the_other_decoder():
    method = tiny(UNIT)
    images = pictures(0)
    first, second = (method.translate(images, "plus", "plain") for _ in range(2))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, method.G.decode(method.G.encode(images, 0), 1))
    with pytest.raises(UserError, match="share is 3, but there are 2 blocks"):
        tiny(UNIT, share=3)
