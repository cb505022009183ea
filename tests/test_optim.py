"""The default optimiser: one kernel for all weights where that works, and the numbers of Adam."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam

from tests.running.test_resume import differences, resumed, run
from xdomain.optim import GANAdam, PowerDecay, WarmUpMultiStep


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(5, 3).to(dtype)


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, True),
        ({"fused": False}, False),
        ({"fused": True}, True),
        ({"foreach": False}, None),
        ({"foreach": True}, None),
    ],
)
def test_all_weights_are_updated_in_one_kernel_unless_told_otherwise(options, fused):
    optimizer = GANAdam(network().parameters(), **options)
    assert [group["fused"] for group in (optimizer.defaults, *optimizer.param_groups)] == [fused, fused]


def test_weights_that_the_kernel_does_not_know_are_updated_one_by_one():
    weights = [nn.Parameter(torch.zeros(2, dtype=torch.complex64)), nn.Parameter(torch.zeros(2))]
    assert GANAdam(weights).param_groups[0]["fused"] is None
    assert GANAdam(network(torch.float64).parameters()).param_groups[0]["fused"]


def test_one_kernel_computes_what_adam_computes():
    nets = network(), network()
    optimizers = GANAdam(nets[0].parameters(), lr=0.01), Adam(nets[1].parameters(), lr=0.01, betas=(0.5, 0.999))
    for step in range(20):
        gradients = [torch.randn(p.shape, generator=torch.Generator().manual_seed(step)) for p in nets[0].parameters()]
        for net, optimizer in zip(nets, optimizers, strict=True):
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_from_before_goes_on_in_one_kernel(tmp_path):
    def unfused(parameters):
        return GANAdam(parameters, fused=False)

    before = run(tmp_path / "run", steps=6, optimizer=unfused)
    path = tmp_path / "run/checkpoints/last.ckpt"
    old = copy.deepcopy(before)
    del old["updates"]  # what older checkpoints do not have
    for state in old["optimizer_states"]:
        state["state"] = {i: {**kept, "step": 6.0} for i, kept in state["state"].items()}  # a number, as it once was
    torch.save(old, path)
    after = resumed(tmp_path / "run", steps=7)
    straight = run(tmp_path / "straight", steps=7, optimizer=unfused)
    assert all(group["fused"] for state in after["optimizer_states"] for group in state["param_groups"])
    for name, value in straight["state_dict"].items():
        torch.testing.assert_close(after["state_dict"][name], value, rtol=1e-5, atol=1e-6)
    assert differences(straight["random_states"], after["random_states"]) == []


def test_the_schedule_of_dann():
    """lr / (1 + 10 p)^0.75, step by step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    schedule, rates = PowerDecay(optimizer, steps=10), []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.01 / (1 + k) ** 0.75 for k in range(12)])
    assert rates[10] / 0.01 == pytest.approx(0.1656, abs=1e-4)


def test_warm_up_and_milestones():
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    schedule = WarmUpMultiStep(optimizer, warm_up=4, milestones=[6, 8], gamma=0.2)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.02, 0.02, 0.004, 0.004]
    assert rates == pytest.approx(expected)
