"""DIDD against the formulas of the paper, with separate calls for both domains."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, make, millions, moved, one_step, owners
from xdomain.errors import UserError
from xdomain.methods import DIDD

WEIGHTS = {"reconstruction": 1.3, "zero": 0.7, "confusion": 0.9}


RECIPE = {
    **{"norm": "batch", "separate_norm": "instance", "spectral": False, "common": 5, "content_start": 2},
    **{"slot_dropout": 0.3, "confusion_target": "uniform", "d_steps": 2, "discriminant": 0.01, "ramp": 3},
}
GOLDEN = {
    "DIDD": lambda: (make(DIDD, **WEIGHTS), Faces()),
    "DIDD as in its recipes": lambda: (make(DIDD, **RECIPE), Faces()),
}


def reconstruction(m, a, b):
    """Images of both domains from their common codes and the two slots."""
    s_a, s_b = m.E_a(a), m.E_b(b)
    y_a = torch.tanh(m.G(torch.cat([m.E_c(a), s_a, torch.zeros_like(s_b)], 1)))
    y_b = torch.tanh(m.G(torch.cat([m.E_c(b), torch.zeros_like(s_a), s_b], 1)))
    return (y_a - a).abs().mean() + (y_b - b).abs().mean()


def autoencoder_losses(m, a, b):
    zero = m.E_a(b).abs().mean() + m.E_b(a).abs().mean()
    confuse = F.softplus(-m.d(m.E_c(a))).mean() + F.softplus(-m.d(m.E_c(b))).mean()  # both are to look like b: 1
    return {"l_reconstruction": reconstruction(m, a, b), "l_zero": zero, "l_confuse": confuse}


def discriminator_loss(m, c_a, c_b):
    return F.softplus(m.d(c_a)).mean() + F.softplus(-m.d(c_b)).mean()  # a is 0, b is 1


@pytest.mark.parametrize("settings", [{}, {"spectral": True}], ids=str)
def test_one_step_equals_the_formulas(settings, monkeypatch):
    # every pass moves the estimates of the singular values: hold them still
    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)
    method = make(DIDD, **{"spectral": False, **WEIGHTS, **settings})
    m = copy.deepcopy(method)
    (g, d), logged = one_step(method)
    a, b = first_batch()

    assert (g.name, d.name) == ("g", "d")
    losses = autoencoder_losses(m, a, b)
    total = sum(weight * loss for weight, loss in zip(WEIGHTS.values(), losses.values(), strict=True))
    assert owners(g.gradients) == {"E_c", "E_a", "E_b", "G"}
    assert_gradients(g.gradients, total, m)
    expected = {**losses, "l_g": total}
    assert {name: logged[name] for name in expected} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=1e-4
    )

    old = [m.E_c(a).detach(), m.E_c(b).detach()]
    m.load_state_dict(d.state)
    new = [m.E_c(a).detach(), m.E_c(b).detach()]
    assert max((x - y).abs().max() for x, y in zip(old, new, strict=True)) > 1e-3
    assert owners(d.gradients) == {"d"}
    assert_gradients(d.gradients, discriminator_loss(m, *new), m)


def test_before_content_starts_there_is_none():
    method = make(DIDD, spectral=False, content_start=1, **WEIGHTS)
    m = copy.deepcopy(method)
    (g, _), logged = one_step(method)
    assert owners(g.gradients) == {"E_c", "G"}
    loss = 0
    for x in first_batch():
        c = m.E_c(x)
        empty = torch.zeros(len(x), m.E_a.dim + m.E_b.dim)
        loss = loss + 1.3 * (torch.tanh(m.G(torch.cat([c, empty], 1))) - x).abs().mean()
        loss = loss + 0.9 * F.softplus(-m.d(c)).mean()
    assert_gradients(g.gradients, loss, m)
    assert logged["l_zero"] == 0


def test_separate_encoders_can_have_a_norm_of_their_own():
    method = make(DIDD, norm="batch", separate_norm="instance", spectral=False)
    norms = [
        {type(m).__name__ for m in getattr(method, name).modules() if "Norm" in type(m).__name__}
        for name in ("E_a", "E_b", "E_c", "G")
    ]
    assert norms == [*[{"InstanceNorm2d"}] * 2, *[{"BatchNorm2d"}] * 2]
    x = first_batch()[0]
    method.eval()  # InstanceNorm sees shapes, not how strong they are

    def change(encoder):
        return (encoder(0.5 * x) - encoder(x)).abs().mean()

    assert max(change(method.E_a), change(method.E_b)) < 0.1 * change(method.E_c)


def test_content_comes_with_its_first_batch():
    method = make(DIDD, spectral=False, content_start=1, **WEIGHTS)
    start = copy.deepcopy(method.state_dict())
    fitted(method, steps=2)
    assert moved(method, start) == {"E_c", "E_a", "E_b", "G", "d"}


def test_training_with_spectral_norms_moves_everything():
    method = make(DIDD, confusion=0.5)
    before = copy.deepcopy(method.state_dict())
    run = fitted(method, steps=3)
    assert moved(method, before) == {"E_c", "E_a", "E_b", "G", "d"}
    assert all(value.isfinite() for value in run.callback_metrics.values())
    assert method.clip == 5.0


def test_sizes_of_the_paper():
    with torch.device("meta"):
        method = DIDD(domains=Faces.domains, channels=(3, 3), image_size=128, spectral=False)
    sizes = {name: millions(getattr(method, name)) for name in ("E_c", "E_a", "E_b", "G", "d")}
    assert sizes == {"E_c": "6.29", "E_a": "2.99", "E_b": "2.99", "G": "6.98", "d": "0.95"}
    assert (method.E_c.dim, method.E_a.dim, method.E_b.dim) == (1848, 100, 100)
    assert method.G.shape == (512, 2, 2)


@pytest.mark.parametrize("size", [32, 64])
def test_smaller_sizes_have_smaller_trunks(size):
    with torch.device("meta"):
        method = DIDD(domains=Faces.domains, channels=(3, 3), image_size=size, sep=8, spectral=False)
    last = {32: 256, 64: 512}[size]
    widths = [32, 64, 128, 256][: {32: 3, 64: 4}[size]]
    convolutions = {
        name: [m.out_channels for m in getattr(method, name).modules() if hasattr(m, "kernel_size")]
        for name in ("E_c", "E_a", "G")
    }
    assert convolutions == {"E_c": [*widths, last - 16], "E_a": [*widths, 8], "G": [*reversed(widths), 3]}
    assert method.d[0].out_features == last


def test_every_layer_has_a_norm():
    method = make(DIDD)
    for net in (method.E_c, method.E_a, method.E_b):
        assert [type(layer).__name__ for layer in net.layers].count("InstanceNorm2d") == 3


def discriminant_losses(m, a, b):
    """Both adversaries: d, which is not to decide, and the distance of the means in the first batch."""
    c_a, c_b = m.E_c(a), m.E_c(b)
    both = torch.cat([m.d(c_a), m.d(c_b)])
    undecided = (F.softplus(both) + F.softplus(-both)).mean()  # (-log p - log(1 - p)) / 2 of both domains, added
    gap = c_a.mean(0) - c_b.mean(0)
    with torch.no_grad():
        within = (torch.cov(c_a.T, correction=0) * len(a) + torch.cov(c_b.T, correction=0) * len(b)) / (2 * len(a) - 2)
        within += 0.05 * within.diagonal().mean() * torch.eye(len(gap))
        w = torch.linalg.inv(within) @ gap
        w /= (w @ within @ w).sqrt()
    return undecided, gap @ w


def test_the_stronger_adversary_equals_its_formulas():
    settings = {"confusion_target": "uniform", "d_steps": 3, "discriminant": 0.4, "common": 5}
    method = make(DIDD, spectral=False, **WEIGHTS, **settings)
    m = copy.deepcopy(method)
    (g, *d), _ = one_step(method)
    a, b = first_batch()

    base = autoencoder_losses(m, a, b)
    undecided, distance = discriminant_losses(m, a, b)
    total = 1.3 * base["l_reconstruction"] + 0.7 * base["l_zero"] + 0.9 * undecided + 0.4 * distance
    assert m.E_c.dim == 5 * 2 * 2
    assert_gradients(g.gradients, total, m, noise=1e-4)  # the inverse of a covariance of few images enlarges rounding
    assert [update.name for update in d] == ["d", "d", "d"]
    for update in d:
        m.load_state_dict(update.state)
        assert_gradients(update.gradients, discriminator_loss(m, m.E_c(a).detach(), m.E_c(b).detach()), m)


def test_both_adversaries_grow_in():
    settings = {"discriminant": 0.4, "ramp": 100}
    method = make(DIDD, spectral=False, **WEIGHTS, **settings)
    m = copy.deepcopy(method)
    (g, _), _ = one_step(method)  # the first batch: both weigh nothing
    a, b = first_batch()
    base = autoencoder_losses(m, a, b)
    assert_gradients(g.gradients, 1.3 * base["l_reconstruction"] + 0.7 * base["l_zero"], m)


def test_without_updates_d_learns_nothing():
    with pytest.raises(UserError, match="d_steps is 0"):
        make(DIDD, d_steps=0)


def test_dropped_slots_teach_the_decoder_alone(monkeypatch):
    method = make(DIDD, spectral=False, slot_dropout=0.4, **{**WEIGHTS, "zero": 0.0, "confusion": 0.0})
    m = copy.deepcopy(method)
    draws = torch.tensor([0.9, 0.1, 0.39, 0.7, 0.5, 0.41, 0.2, 0.6])[:, None]  # of four images of a and four of b
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    (g, _), logged = one_step(method)
    monkeypatch.undo()
    loss = 0
    for domain, x in enumerate(first_batch()):
        c, code = m.E_c(x), (m.E_a, m.E_b)[domain](x)
        empty = torch.zeros_like(code)
        for i, draw in enumerate(draws[4 * domain :][:4]):
            slots = [empty[i], empty[i]] if draw < 0.4 else [code[i], empty[i]][:: 1 if domain == 0 else -1]
            common = c[i].detach() if draw < 0.4 else c[i]
            y = torch.tanh(m.G(torch.cat([common, *slots])[None]))
            loss = loss + 1.3 * (y[0] - x[i]).abs().mean() / 4
    assert logged["l_reconstruction"] == pytest.approx(loss.item() / 1.3, rel=1e-4)
    assert_gradients(g.gradients, loss, m)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_dropout_of_slots_is_a_share(share):
    with pytest.raises(UserError, match=f"slot_dropout is {share}: give a share"):
        make(DIDD, slot_dropout=share)
