"""The latent adversarial loss against its closed forms."""

import math

import pytest
import torch

from xdomain.losses import l_domain


@pytest.mark.parametrize("labels", [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_knowing_nothing_costs_two_log_two(labels):
    assert l_domain(torch.zeros(4, 1), torch.zeros(4, 1), *labels).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(("label_a", "label_b"), [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_equals_the_sum_of_both_means_of_minus_log_probability(label_a, label_b):
    logits = [-1.5, 0.3], [2.0, -0.25, 0.75]

    def nll(values, label):
        probabilities = [1 / (1 + math.exp(-v)) for v in values]
        return -sum(math.log(p if label else 1 - p) for p in probabilities) / len(values)

    expected = nll(logits[0], label_a) + nll(logits[1], label_b)
    a, b = (torch.tensor(values)[:, None] for values in logits)
    assert l_domain(a, b, label_a, label_b).item() == pytest.approx(expected, rel=1e-6)


def test_stays_finite_for_a_sure_discriminator():
    sure = torch.full((2, 1), 200.0, requires_grad=True)
    loss = l_domain(sure, -sure, 0, 1)
    assert loss.item() == pytest.approx(400)
    loss.backward()
    torch.testing.assert_close(sure.grad, torch.full((2, 1), 1.0))  # two ways, each 1 / 2


def test_both_domains_pull_towards_one_label():
    a, b = torch.zeros(3, 1, requires_grad=True), torch.zeros(3, 1, requires_grad=True)
    l_domain(a, b, 1, 1).backward()
    assert (a.grad < 0).all()
    assert (b.grad < 0).all()
    a.grad = b.grad = None
    l_domain(a, b, 0, 1).backward()
    assert (a.grad > 0).all()
    assert (b.grad < 0).all()
