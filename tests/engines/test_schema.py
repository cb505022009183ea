"""Parameters of engines: what a network sees of them, and back."""

import math

import pytest
import torch

from xdomain.engines.drawing import Draws
from xdomain.engines.schema import Parameter, Schema


@pytest.fixture
def schema():
    return Schema(
        [
            Parameter("size", "continuous", 2.0, 6.0, group="shape"),
            Parameter("hat", "choice", values=("none", "cap", "crown"), group="wear"),
            Parameter("turn", "periodic", -math.pi, math.pi, group="shape"),
        ]
    )


def test_one_hot_form_by_hand(schema):
    u = torch.tensor([[3.0, 2.0, -math.pi], [6.0, 0.0, math.pi / 2]])
    expected = torch.tensor([[0.25, 0, 0, 1, 1, 0], [1, 1, 0, 0, math.cos(1.5 * math.pi), math.sin(1.5 * math.pi)]])
    torch.testing.assert_close(schema.one_hot(u), expected, atol=1e-6, rtol=0)
    assert schema.size == 6
    assert len(schema) == 3
    assert schema.slices == {"size": slice(0, 1), "hat": slice(1, 4), "turn": slice(4, 6)}
    assert schema.groups == {"shape": (0, 2), "wear": (1,)}
    assert schema.index("hat") == 1


def test_round_trip(schema):
    u = schema.draw(Draws(torch.arange(500), 1))
    assert u.dtype == torch.float32
    back = schema.from_one_hot(schema.one_hot(u))
    torch.testing.assert_close(back, u, atol=1e-5, rtol=0)


def test_any_vector_becomes_valid_parameters(schema):
    v = torch.tensor([[1.7, -3.0, -1.0, -2.0, 0.0, 5.0], [-0.2, 0.4, 0.35, 0.25, -1e-3, -1e-3]])
    expected = torch.tensor([[6.0, 1.0, -math.pi / 2], [2.0, 0.0, -math.pi + 2 * math.pi * 225 / 360]])
    torch.testing.assert_close(schema.from_one_hot(v), expected, atol=1e-5, rtol=0)
    u = schema.from_one_hot(10 * torch.randn(200, 6))
    assert (u[:, 0] >= 2).all()
    assert (u[:, 0] <= 6).all()
    assert set(u[:, 1].tolist()) == {0.0, 1.0, 2.0}
    assert (u[:, 2].abs() <= math.pi + 1e-6).all()


def test_periodic_values_have_no_seam(schema):
    ends = schema.one_hot(torch.tensor([[2.0, 0.0, -math.pi + 1e-4], [2.0, 0.0, math.pi - 1e-4]]))
    assert (ends[0] - ends[1]).abs().max() < 1e-3


def test_draws_are_uniform(schema):
    u = schema.draw(Draws(torch.arange(9000), 2))
    assert u[:, 0].mean().item() == pytest.approx(4, abs=0.05)
    assert u[:, 0].std().item() == pytest.approx(4 / math.sqrt(12), abs=0.05)
    counts = torch.bincount(u[:, 1].long(), minlength=3)
    assert ((counts - 3000) ** 2 / 3000).sum() < 13.8  # two degrees of freedom: p = 0.001
    assert u[:, 2].mean().item() == pytest.approx(0, abs=0.08)
    assert torch.equal(schema.draw(Draws(torch.tensor([77]), 2))[0], u[77])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Parameter("a", "choice"), "'a'.*named values"),
        (lambda: Parameter("a", "continuous", values=("x",)), "'a'.*named values"),
        (lambda: Parameter("a", "continuous", 1.0, 1.0), "'a'.*low must be below high"),
        (lambda: Schema([Parameter("a", "continuous"), Parameter("a", "continuous")]), "same name"),
        (lambda: Schema([Parameter("a", "continuous")]).index("b"), "'b', only a"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
