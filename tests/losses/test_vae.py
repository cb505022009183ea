"""The divergence of the encoder's distribution against torch's own."""

import torch
from torch.distributions import Normal, kl_divergence

from xdomain import losses


def test_equals_the_divergence_of_two_normals():
    torch.manual_seed(0)
    mu, logvar = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(losses.kl_divergence(mu, logvar), expected)


def test_is_least_at_the_standard_normal():
    mu, logvar = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    value = losses.kl_divergence(mu, logvar)
    assert value == 0
    assert all((slope == 0).all() for slope in torch.autograd.grad(value, (mu, logvar)))
