"""Domain-adversarial training against two explicit gradients, its schedules, and a plain classifier."""

import copy
import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD

from tests.methods.adaptation import (
    FACTS,
    LR,
    Digits,
    assert_slopes,
    batches,
    fitted,
    make,
    network,
    slopes,
    told_apart,
    updates,
)
from tests.toys import weights
from xdomain.errors import UserError
from xdomain.methods import DANN, Classifier
from xdomain.methods.dann import ramp

GOLDEN = {
    "DANN": lambda: (make(DANN, weight=1.0), Digits()),
    "DANN with a batch norm": lambda: (make(DANN, network=network(batch_norm=True)), Digits()),
}


def test_a_step_is_two_explicit_ones():
    """No reversal here: f goes down the loss of the classes and up that of the domains, d down its own."""
    weight, steps, m = 0.7, 4, make(DANN)
    found = updates(make(DANN, weight=weight), steps)
    assert [update.name for update in found] == ["all"] * steps
    for number, (update, (x_a, x_b, label)) in enumerate(zip(found, batches(steps), strict=True)):
        m.load_state_dict(update.state)
        h_a, h_b = m.network.features(x_a), m.network.features(x_b)
        l_class, l_domain = F.cross_entropy(m.network.head(h_a), label), told_apart(m.d(h_a), m.d(h_b))
        strength = weight * math.tanh(5 * number / steps)
        of_class, of_domain = slopes(l_class, m.network, "network"), slopes(l_domain, m.network, "network")
        expected = {n: of_class[n] - strength * of_domain[n] for n in of_class} | slopes(l_domain, m.d, "d")
        assert_slopes(update.gradients, expected)
        if number + 1 < steps:
            for name, slope in expected.items():
                after = found[number + 1].state[name]
                torch.testing.assert_close(after, update.state[name] - LR * slope, rtol=1e-4, atol=1e-6)


def test_lambda_grows_as_printed():
    printed = {0: 0, 0.1: 0.462, 0.25: 0.848, 0.5: 0.987}
    assert {p: round(ramp(p), 3) for p in printed} == printed
    assert ramp(1) == pytest.approx(math.tanh(5))

    class Note(DANN):
        def training_step(self, batch, batch_idx):
            self.seen = [*getattr(self, "seen", []), self.strength]
            super().training_step(batch, batch_idx)

    method = make(Note, weight=0.5, steps=5)
    fitted(method, steps=7)
    shares = [0, 0.2, 0.4, 0.6, 0.8, 1, 1]  # also after the end
    assert method.seen == pytest.approx([0.5 * (2 / (1 + math.exp(-10 * p)) - 1) for p in shares])


def test_a_schedule_without_batches_is_refused():
    with pytest.raises(UserError, match="steps is 0: give a number of batches of at least 1"):
        make(DANN, steps=0)


def test_without_a_weight_it_is_a_classifier_of_the_source():
    dann, plain = make(DANN, weight=0.0), Classifier(network(), optimizer=partial(SGD, lr=LR), **FACTS)
    plain.network.load_state_dict(dann.network.state_dict())
    before = weights(dann.d)
    fitted(dann), fitted(plain)
    for name, value in plain.network.state_dict().items():  # sums over a larger batch have another order
        torch.testing.assert_close(dann.network.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(dann.d.layers[0].weight, before["layers.0.weight"])


def test_a_batch_norm_takes_the_statistics_of_both_domains():
    m = make(DANN, network=network(batch_norm=True))
    update, *_ = updates(copy.deepcopy(m), 2)
    x_a, x_b, label = next(batches(1))
    h = m.network.features(torch.cat([x_a, x_b]))
    l_class = F.cross_entropy(m.network.head(h[: len(x_a)]), label)
    l_domain = told_apart(m.d(h[: len(x_a)]), m.d(h[len(x_a) :]))
    # lambda is 0 in the first batch
    assert_slopes(update.gradients, slopes(l_class, m.network, "network") | slopes(l_domain, m.d, "d"))
