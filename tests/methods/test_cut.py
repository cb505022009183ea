"""CUT against its formulas, written without anything shared."""

import copy

import pytest
import torch

import xdomain.methods.cut
from tests.methods.domains import score, tiny
from tests.methods.faces import Faces, assert_gradients, first_batch, one_step, owners
from xdomain.errors import UserError
from xdomain.losses import patch_nce
from xdomain.methods import CUT
from xdomain.optim import GANAdam

GOLDEN = {"CUT": lambda: (tiny(CUT, optimizer=GANAdam), Faces())}


@pytest.mark.parametrize("settings", [{}, {"identity": False}, {"flip": True, "identity": False}], ids=str)
def test_cut_equals_the_formulas(settings, monkeypatch):
    method = tiny(CUT, nce=2.0, **settings)
    m = copy.deepcopy(method)
    if settings.get("flip"):
        monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(0.1))  # mirrored
    places = [torch.arange(7), torch.arange(3, 10), torch.arange(7), torch.arange(5, 12)]
    monkeypatch.setattr(type(method.H), "draw", lambda self, maps: places)
    updates, logged = one_step(method)
    x, y = first_batch()
    mirrored = bool(settings.get("flip"))

    def nce(images, translations):
        queries = m.G.maps(translations, m.layers)
        if mirrored:
            queries = [q.flip(3) for q in queries]
        features = m.H(queries, places), m.H(m.G.maps(images, m.layers), places)
        return sum(patch_nce(q, k.detach()) for q, k in zip(*features, strict=True)) / 4

    fake = m.G(x.flip(3) if mirrored else x)
    judged = (score(m.D(y), 1) + score(m.D(fake.detach()), 0)) / 2
    assert [update.name for update in updates] == ["d", "g"]
    assert_gradients(updates[0].gradients, judged, m, noise=1e-4)
    m.D.load_state_dict({n.removeprefix("D."): v for n, v in updates[1].state.items() if n.startswith("D.")})
    total = score(m.D(fake), 1) + 2 * (
        (nce(x, fake) + nce(y, m.G(y))) / 2 if settings.get("identity", True) else nce(x, fake)
    )
    assert logged["l_g"] == pytest.approx(total.item(), rel=1e-4)
    assert owners(updates[1].gradients) == {"G", "H"}
    assert_gradients(updates[1].gradients, total, m, noise=1e-4)


def test_cut_refuses_layers_that_its_encoder_does_not_have():
    with pytest.raises(UserError, match=r"layers is \[0, 13\]: give rising numbers from 0 to 12"):
        tiny(CUT, layers=[0, 13])


@pytest.mark.parametrize("flip", [False, True])
def test_keys_are_made_without_a_graph(flip, monkeypatch):
    graphs = []

    def recorded(queries, keys, temperature):
        graphs.append((queries.requires_grad, keys.requires_grad))
        return patch_nce(queries, keys, temperature)

    monkeypatch.setattr(xdomain.methods.cut, "patch_nce", recorded)
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(0.1))  # mirrored, with flip
    one_step(tiny(CUT, identity=False, flip=flip))
    assert graphs == [(True, False)] * 4
