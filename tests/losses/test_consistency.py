"""The Jensen-Shannon divergence against its definition by entropies."""

import math

import torch

from xdomain.losses import jensen_shannon


def entropy(p):
    return -(p * p.log()).sum(1)


def test_it_is_the_entropy_of_the_mean_less_the_mean_entropy():
    torch.manual_seed(0)
    logits = [torch.randn(6, 5, dtype=torch.float64) * 2 for _ in range(3)]
    p = [view.softmax(1) for view in logits]
    expected = (entropy(sum(p) / 3) - sum(entropy(q) for q in p) / 3).mean()
    torch.testing.assert_close(jensen_shannon(logits).double(), expected, rtol=1e-5, atol=1e-6)


def test_bounds_and_gradient():
    same = torch.randn(4, 3)
    assert abs(float(jensen_shannon([same, same, same]))) < 1e-6
    certain = [torch.eye(3)[[i]] * 200 for i in range(3)]
    for view in certain:
        view.requires_grad_()
    loss = jensen_shannon(certain)
    assert abs(float(loss.detach()) - math.log(3)) < 1e-4
    loss.backward()
    assert all(torch.isfinite(view.grad).all() for view in certain)
