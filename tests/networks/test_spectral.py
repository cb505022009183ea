import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from xdomain.networks.spectral import spectral_norm

LAYERS = {
    "conv2d": lambda: nn.Conv2d(3, 5, 4, 2, 1),
    "conv3d": lambda: nn.Conv3d(3, 5, 3, padding=1),
    "transposed": lambda: nn.ConvTranspose2d(3, 5, 4, 2, 1),
    "linear": lambda: nn.Linear(3, 5),
}
INPUTS = {"conv2d": (2, 3, 8, 8), "conv3d": (2, 3, 4, 4, 4), "transposed": (2, 3, 4, 4), "linear": (2, 3)}


def pair(kind):
    """The same layer with the norm of this project and with that of torch."""
    torch.manual_seed(0)
    ours = LAYERS[kind]().double()
    theirs = copy.deepcopy(ours)
    torch.manual_seed(1)
    ours = spectral_norm(ours)
    torch.manual_seed(1)
    return ours, parametrizations.spectral_norm(theirs)


def assert_equal(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_training_equals_that_with_the_norm_of_torch(kind):
    ours, theirs = pair(kind)
    assert_equal(ours, theirs)
    optimizers = [torch.optim.SGD(layer.parameters(), 0.1) for layer in (ours, theirs)]
    for _ in range(3):
        x = torch.randn(INPUTS[kind], dtype=torch.float64)
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (layer(x).square().mean() + layer(-2 * x).sin().mean()).backward()  # two passes before a backward pass
            optimizer.step()
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-12)
        assert_equal(ours, theirs)


@pytest.mark.parametrize("kind", LAYERS)
def test_evaluation_equals_that_with_the_norm_of_torch(kind):
    ours, theirs = pair(kind)
    with torch.no_grad():
        for layer in (ours, theirs):
            layer.parametrizations.weight.original.mul_(3)
    state = copy.deepcopy(ours.state_dict())
    x = torch.randn(INPUTS[kind], dtype=torch.float64)
    gradients = []
    for layer in (ours.eval(), theirs.eval()):
        y = layer(x)
        gradients.append(torch.autograd.grad(y.square().sum(), layer.parametrizations.weight.original)[0])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


def test_gradient_penalties_reach_the_weight():
    ours, theirs = pair("conv2d")
    x = torch.randn(INPUTS["conv2d"], dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (ours, theirs):
        (gradient,) = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
        (gradient.norm() - 1).square().backward()
        found.append(layer.parametrizations.weight.original.grad)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)
