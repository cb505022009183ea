"""Guided content transfer against the formulas of the paper, with separate calls for both domains."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.methods.faces import Faces, assert_gradients, first_batch, make, millions, one_step, owners
from xdomain.methods import GuidedTransfer

GOLDEN = {
    "GuidedTransfer": lambda: (make(GuidedTransfer, confusion=0.8), Faces()),
    "GuidedTransfer as in its recipes": lambda: (
        make(GuidedTransfer, norm="batch", common=5, reconstruction="l1", discriminant=0.03, d_steps=2),
        Faces(),
    ),
}


@pytest.mark.parametrize("settings", [{}, {"reconstruction": "l1"}], ids=str)
def test_one_step_equals_the_formulas(settings):
    method = make(GuidedTransfer, confusion=0.8, **settings)
    m = copy.deepcopy(method)
    (g, d), logged = one_step(method)
    p, n = first_batch()

    assert (g.name, d.name) == ("g", "d")
    content = m.E_2(p)
    y_p = torch.tanh(m.D(torch.cat([m.E_1(p), content], 1)))
    y_n = torch.tanh(m.D(torch.cat([m.E_1(n), torch.zeros_like(content)], 1)))
    power = 1 if settings.get("reconstruction") == "l1" else 2
    recon = ((y_p - p).abs() ** power).mean() + ((y_n - n).abs() ** power).mean()
    confuse = F.softplus(m.d(m.E_1(p))).mean() + F.softplus(m.d(m.E_1(n))).mean()  # both are to look plain: 0
    assert owners(g.gradients) == {"E_1", "E_2", "D"}
    assert_gradients(g.gradients, recon + 0.8 * confuse, m)
    assert logged["l_reconstruction"] == pytest.approx(recon.item(), rel=1e-4)
    assert logged["l_confuse"] == pytest.approx(confuse.item(), rel=1e-4)

    old = [m.E_1(p).detach(), m.E_1(n).detach()]
    m.load_state_dict(d.state)
    new = [m.E_1(p).detach(), m.E_1(n).detach()]
    assert max((x - y).abs().max() for x, y in zip(old, new, strict=True)) > 1e-3
    c_p, c_n = new
    assert owners(d.gradients) == {"d"}
    assert_gradients(d.gradients, F.softplus(-m.d(c_p)).mean() + F.softplus(m.d(c_n)).mean(), m)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        method = GuidedTransfer(domains=Faces.domains, channels=(3, 3), image_size=128)
    sizes = {name: millions(getattr(method, name)) for name in ("E_1", "E_2", "D", "d")}
    assert sizes == {"E_1": "6.48", "E_2": "0.74", "D": "6.98", "d": "1.00"}
    assert (method.E_1.dim, method.E_2.dim, method.D.shape) == (1948, 100, (512, 2, 2))


@pytest.mark.parametrize(
    ("size", "common", "content", "decoder"),
    [
        (32, [32, 64, 128, 248], [32, 64, 64, 8], [128, 64, 32, 3]),
        (64, [32, 64, 128, 256, 504], [32, 64, 128, 128, 8], [256, 128, 64, 32, 3]),
    ],
)
def test_smaller_sizes_have_smaller_trunks(size, common, content, decoder):
    with torch.device("meta"):
        method = GuidedTransfer(domains=Faces.domains, channels=(3, 3), image_size=size, sep=8)
    nets = (method.E_1, method.E_2, method.D)
    widths = [[m.out_channels for m in net.modules() if hasattr(m, "kernel_size")] for net in nets]
    assert widths == [common, content, decoder]


def test_defaults_are_those_of_the_paper():
    method = make(GuidedTransfer)
    assert method.weights == {"l_reconstruction": 1, "l_confuse": 0.001, "l_discriminant": 0}
    assert (method.clip, method.contents) == (5.0, ("plus",))
