"""Domain confusion against its formulas."""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.methods.adaptation import (
    Digits,
    assert_slopes,
    batches,
    fitted,
    make,
    slopes,
    told_apart,
    undecided,
    updates,
)
from xdomain.methods import DomainConfusion

GOLDEN = {"DomainConfusion": lambda: (make(DomainConfusion), Digits())}


def test_updates_are_those_of_the_formulas():
    """The pass of before d's update serves both; f is judged by the d that has moved."""
    found, m = updates(make(DomainConfusion, weight=0.7), 2), make(DomainConfusion)
    assert [update.name for update in found] == ["d", "f", "d", "f"]
    for (d, f), (x_a, x_b, label) in zip((found[:2], found[2:]), batches(2), strict=True):
        m.load_state_dict(d.state)
        assert_slopes(d.gradients, slopes(told_apart(m.d(m.features(x_a)), m.d(m.features(x_b))), m.d, "d"))
        m.load_state_dict(f.state)
        assert not torch.equal(d.state["d.layers.0.weight"], f.state["d.layers.0.weight"])
        h_a, h_b = m.features(x_a), m.features(x_b)
        loss = F.cross_entropy(m.logits(h_a), label) + 0.7 * (undecided(m.d(h_a)) + undecided(m.d(h_b)))
        assert_slopes(f.gradients, slopes(loss, m.network, "network"))


def test_losses_at_a_classifier_of_domains_that_knows_nothing():
    """log 2 for each domain, whatever it is asked for: with an even chance nothing is less."""
    method = make(DomainConfusion, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    torch.nn.init.zeros_(method.d.layers[-1].weight)
    torch.nn.init.zeros_(method.d.layers[-1].bias)
    logged = fitted(method, 1).callback_metrics
    for name in ("l_d", "l_confuse"):
        assert logged[name].item() == pytest.approx(2 * math.log(2), rel=1e-6)
