"""Fader Networks against the formulas of the paper's code."""

import copy

import pytest
import torch

from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, make, millions, one_step, owners, pictures
from xdomain.errors import UserError
from xdomain.methods import FaderNetwork

GOLDEN = {"FaderNetwork": lambda: (make(FaderNetwork, adversarial=0.9, ramp=3), Faces())}


def nll(logits, label):
    return (logits.logsumexp(1) - logits[:, label]).mean()


def one_hot(label, count):
    return torch.eye(2)[label].expand(count, 2)


def at_step(method, step):
    """Count batches from ``step``."""

    class Late(type(method)):
        def training_step(self, batch, batch_idx):
            progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.total.completed += step
            super().training_step(batch, batch_idx)
            progress.total.completed -= step

    method.__class__ = Late
    return method


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (30, 0.3 * 0.9), (250, 0.9)])
def test_one_step_equals_the_formulas(step, weight):
    method = at_step(make(FaderNetwork, adversarial=0.9, ramp=100, dropout=0.0), step)
    m = copy.deepcopy(method).train()
    (d, g), logged = one_step(method)
    a, b = first_batch()
    x, half = torch.cat([a, b]), len(a)

    assert (d.name, g.name) == ("d", "g")
    m.E.eval()  # d is trained on codes under E's running statistics
    codes = m.E(x).detach()
    logits = m.d(codes)
    l_d = (nll(logits[:half], 0) + nll(logits[half:], 1)) / 2
    assert owners(d.gradients) == {"d"}
    assert_gradients(d.gradients, l_d, m)
    assert logged["l_d"] == pytest.approx(l_d.item(), rel=1e-4)

    m.load_state_dict(g.state)  # d after its update, with the running statistics that it then has
    m.E.train(), m.d.eval()
    z = m.E(x)
    y = torch.tanh(m.D(z, torch.cat([one_hot(0, half), one_hot(1, half)])))
    logits = m.d(z)
    adversarial = (nll(logits[:half], 1) + nll(logits[half:], 0)) / 2
    assert owners(g.gradients) == {"E", "D"}
    assert_gradients(g.gradients, (y - x).square().mean() + weight * adversarial, m)
    assert logged["l_adversarial"] == pytest.approx(adversarial.item(), rel=1e-4)


def test_modes_of_the_two_updates():
    method, seen = make(FaderNetwork), []
    for name in ("E", "D", "d"):
        hook = lambda module, _, n=name: seen.append((n, module.training))  # noqa: E731
        getattr(method, name).register_forward_pre_hook(hook)
    fitted(method)
    assert seen == [("E", False), ("d", True), ("E", True), ("d", False), ("D", True)]
    assert all(module.training for module in method.modules())


@pytest.mark.parametrize(
    ("size", "autoencoder", "latent"),
    [(256, "14.00", "8.66"), (128, "14.00", "4.46"), (64, "5.59", "4.46"), (32, "1.39", "2.36")],
)
def test_sizes_of_the_paper(size, autoencoder, latent):
    with torch.device("meta"):
        method = FaderNetwork(domains=Faces.domains, channels=(3, 3), image_size=size)
    both = torch.nn.ModuleList([method.E, method.D])
    assert (millions(both), millions(method.d)) == (autoencoder, latent)
    assert (method.adversarial, method.ramp, method.clip) == (1e-4, 500_000, 5.0)
    assert not [layer for layer in method.E.layers[:2] if isinstance(layer, torch.nn.BatchNorm2d)]


def test_translation_tells_the_decoder_the_domain():
    method, x = make(FaderNetwork).eval(), pictures(1)
    z = method.E(x)
    plus, plain = (torch.tanh(method.D(z, one_hot(label, 3))) for label in (0, 1))
    assert (plus - plain).abs().max() > 1e-4
    for source, target, expected in [
        ("plus", "plain", plain),
        ("plain", "plus", plus),
        ("plus", "plus", plus),
        ("plain", "plain", plain),
    ]:
        torch.testing.assert_close(method.translate(x, source, target), expected)
        guided = method.translate(x, source, target, guide=pictures(2))
        torch.testing.assert_close(guided, expected)  # no guide is asked
    torch.testing.assert_close(method.translate(x, "plus", "plain", task="remove"), plain)
    torch.testing.assert_close(method.translate(x, "plain", "plus", task="remove"), plus)


def test_labels_slide_beyond_both_domains():
    method, x = make(FaderNetwork).eval(), pictures(1)
    for amount in (-0.5, 0.0, 0.3, 1.0, 1.5):
        y = torch.tensor([[1 - amount, amount]]).expand(3, 2)
        torch.testing.assert_close(method.slide(x, amount), torch.tanh(method.D(method.E(x), y)))
    grid = method.interpolate(x, pictures(2), "common", 5)
    assert grid.shape == (3, 1, 5, 3, 16, 16)
    for column, amount in enumerate((0, 0.25, 0.5, 0.75, 1)):
        torch.testing.assert_close(grid[:, 0, column], method.slide(x, amount))
    with pytest.raises(UserError, match="fixed is plus"):
        method.interpolate(x, x, "plus", 3)
    assert set(method.codes(x)) == {"common"}
