"""The loss of an engine's parameters against its closed form."""

import math

import pytest
import torch

from xdomain.losses import l_parameters
from xdomain.networks.parameters import activated

LAYOUT = (("choice", 3), ("continuous", 1), ("periodic", 2))


def test_by_hand():
    raw = torch.tensor([[1.0, 0.0, -1.0, 0.0, 3.0, 4.0]])
    truth = torch.tensor([[0.0, 1.0, 0.0, 0.75, 1.0, 0.0]])
    choice = math.log(math.e + 1 + 1 / math.e) / math.log(3)
    expected = (choice + 12 * 0.25**2 + (1 - 0.6)) / 3
    assert l_parameters(raw, truth, LAYOUT).item() == pytest.approx(expected, rel=1e-5)


def test_knowing_nothing_costs_about_one():
    torch.manual_seed(0)
    n = 20000
    choice = torch.eye(3)[torch.randint(3, (n,))]
    angle = 2 * math.pi * torch.rand(n, 1)
    truth = torch.cat([choice, torch.rand(n, 1), angle.cos(), angle.sin()], 1)
    raw = torch.tensor([0.0, 0, 0, 0, 1, 0]).expand(n, -1)
    assert l_parameters(raw, truth, LAYOUT).item() == pytest.approx(1, abs=0.02)


def test_the_truth_costs_nothing_and_so_do_its_outputs():
    truth = torch.tensor([[0.0, 1.0, 0.0, 0.75, 0.6, -0.8]])
    raw = torch.tensor([[-40.0, 40.0, -40.0, math.log(3), 1.2, -1.6]])
    assert l_parameters(raw, truth, LAYOUT).item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(activated(raw, LAYOUT), truth)
