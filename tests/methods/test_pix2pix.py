"""pix2pix against its formulas."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.methods.domains import Pairs, tiny
from tests.methods.faces import Watch, assert_gradients, fitted, owners
from xdomain.errors import UserError
from xdomain.methods import Pix2Pix
from xdomain.optim import GANAdam

GOLDEN = {"Pix2Pix": lambda: (tiny(Pix2Pix, optimizer=GANAdam), Pairs())}


@pytest.mark.parametrize("reverse", [False, True])
def test_pix2pix_equals_the_formulas(reverse):
    method = tiny(Pix2Pix, reverse=reverse, l1=5.0)
    m = copy.deepcopy(method)
    watch = Watch()
    fitted(method, data=Pairs(), callbacks=[watch])
    x, y = pair_batch()
    x, y = (y, x) if reverse else (x, y)
    fake = m.G(x)
    real, faked = m.D(torch.cat([x, y], 1)), m.D(torch.cat([x, fake.detach()], 1))
    judged = (F.softplus(-real).mean() + F.softplus(faked).mean()) / 2
    d, g = watch.updates
    assert_gradients(d.gradients, judged, m, noise=1e-4)
    m.D.load_state_dict({n.removeprefix("D."): v for n, v in g.state.items() if n.startswith("D.")})
    total = F.softplus(-m.D(torch.cat([x, fake], 1))).mean() + 5 * (fake - y).abs().mean()
    assert owners(g.gradients) == {"G"}
    assert_gradients(g.gradients, total, m, noise=1e-4)
    direction = ("plain", "plus") if reverse else ("plus", "plain")
    assert method.directions == (direction,)


def pair_batch():
    batch, _, _ = next(iter(Pairs().train_dataloader()))
    assert torch.equal(batch["a"].position, batch["b"].position)
    return batch["a"].image.float() / 127.5 - 1, batch["b"].image.float() / 127.5 - 1


def test_pix2pix_refuses_data_without_pairs():
    with pytest.raises(UserError, match="Pix2Pix learns from pairs, but Faces gives none: set its pairs"):
        fitted(tiny(Pix2Pix))
