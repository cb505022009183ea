"""The adversarial losses against their formulas, written out in NumPy."""

import math

import numpy as np
import pytest
import torch

from xdomain.losses import l_d, l_gang


def minus_log(logits, label):
    """Mean of -log softmax(logits)[label], term by term."""
    z = logits.double().numpy()
    return float(np.mean([math.log(sum(math.exp(v) for v in row)) - row[label] for row in z]))


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, 3, generator=generator) * 2 for n in (5, 4, 7)]


def test_discriminator_loss(logits):
    fake_a, fake_b, real_b = logits
    expected = minus_log(fake_a, 0) + minus_log(fake_b, 1) + minus_log(real_b, 2)
    assert l_d(fake_a, fake_b, real_b).item() == pytest.approx(expected, rel=1e-5)


def test_generator_loss(logits):
    fake_a, fake_b, _ = logits
    assert l_gang(fake_a, fake_b).item() == pytest.approx(minus_log(fake_a, 2) + minus_log(fake_b, 2), rel=1e-5)


def test_binary_losses_leave_translated_targets_out(logits):
    fake_a, _, real_b = logits
    assert l_d(fake_a, None, real_b).item() == pytest.approx(minus_log(fake_a, 0) + minus_log(real_b, 2), rel=1e-5)
    assert l_gang(fake_a, None).item() == pytest.approx(minus_log(fake_a, 2), rel=1e-5)


@pytest.mark.parametrize("level", [0.0, -7.5])
def test_losses_where_the_discriminator_knows_nothing(level):
    equal = torch.full((6, 3), level)
    assert l_d(equal, equal, equal).item() == pytest.approx(3 * math.log(3), rel=1e-6)
    assert l_gang(equal, equal).item() == pytest.approx(2 * math.log(3), rel=1e-6)


def test_a_step_down_the_gradient_raises_the_wanted_class():
    for loss, wanted in (
        (lambda x: l_d(x, torch.zeros(1, 3), torch.zeros(1, 3)), 0),
        (lambda x: l_d(torch.zeros(1, 3), x, torch.zeros(1, 3)), 1),
        (lambda x: l_d(torch.zeros(1, 3), torch.zeros(1, 3), x), 2),
        (lambda x: l_gang(x, torch.zeros(1, 3)), 2),
        (lambda x: l_gang(torch.zeros(1, 3), x), 2),
    ):
        x = torch.zeros(2, 3, requires_grad=True)
        loss(x).backward()
        assert x.grad is not None
        # softmax - one-hot over the batch of two, at equal logits
        expected = torch.full((2, 3), 1 / 6)
        expected[:, wanted] -= 1 / 2
        torch.testing.assert_close(x.grad, expected)


def test_saturated_logits_stay_finite():
    far = torch.tensor([[1e4, -1e4, 0.0]])
    assert l_gang(far, far).item() == pytest.approx(2e4, rel=1e-5)
    assert torch.isfinite(l_d(far, far, far))
