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


# ---------------------------------------------------------------- symmetry, softness, errors


@pytest.fixture
def symmetric():
    return Schema(
        [
            Parameter("turn", "periodic", 0.0, 360.0, symmetry=("shape", (1, 4))),
            Parameter("shape", "choice", values=("fish", "square")),
        ]
    )


def test_what_looks_the_same_has_the_same_form(symmetric):
    v = symmetric.one_hot(torch.tensor([[10.0, 1], [100.0, 1], [280.0, 1], [10.0, 0], [100.0, 0]]))
    torch.testing.assert_close(v[0], v[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(v[0], v[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(v[0, :2], torch.tensor([math.cos(math.radians(40)), math.sin(math.radians(40))]))
    assert (v[3] - v[4]).abs().max() > 0.5
    expected = torch.tensor([[10.0, 1], [10.0, 1], [10.0, 1], [10.0, 0], [100.0, 0]])
    torch.testing.assert_close(symmetric.from_one_hot(v), expected, atol=1e-4, rtol=0)


def test_errors_by_hand(schema, symmetric):
    u = torch.tensor([[3.0, 2.0, -3.0], [6.0, 0.0, 1.0]])
    truth = torch.tensor([[5.0, 2.0, 3.0], [6.0, 1.0, 1.0]])
    turn = (2 * math.pi - 6) / (2 * math.pi)  # the short way round
    torch.testing.assert_close(schema.errors(u, truth), torch.tensor([[0.5, 0, turn], [0, 1, 0]]))
    u = torch.tensor([[89.0, 1.0], [185.0, 1.0], [185.0, 0.0]])
    found = symmetric.errors(u, torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))[:, 0] * 360
    torch.testing.assert_close(found, torch.tensor([2.0, 5.0, 5.0]))


def test_softened_choices_keep_their_largest_value(schema):
    torch.manual_seed(0)
    v = schema.one_hot(schema.draw(Draws(torch.arange(4000), 3)))
    soft = schema.soften(v, 0.5)
    hat = schema.slices["hat"]
    torch.testing.assert_close(soft[:, hat].sum(1), torch.ones(4000))
    assert (soft[:, hat] >= 0).all()
    assert torch.equal(soft[:, hat].argmax(1), v[:, hat].argmax(1))
    assert soft[:, hat].amax(1).mean().item() == pytest.approx(1 - 0.25 * 2 / 3, abs=0.01)  # E[share] E[spread lost]
    rest = [i for i in range(schema.size) if not hat.start <= i < hat.stop]
    assert torch.equal(soft[:, rest], v[:, rest])
    assert torch.equal(schema.soften(v, 0.0), v)


# ---------------------------------------------------------------- names


def test_names_and_back(schema):
    u = schema.draw(Draws(torch.arange(50), 4))
    for row in u:
        named = schema.named(row)
        assert named["hat"] in ("none", "cap", "crown")
        torch.testing.assert_close(schema.from_names(named), row, atol=1e-4, rtol=0)
    texts = {"size": "2.5", "hat": "cap", "turn": "1e-1"}  # as a table holds them
    torch.testing.assert_close(schema.from_names(texts), torch.tensor([2.5, 1.0, 0.1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hut": 1}, "^hut is no parameter: did you mean hat\\?$"),
        ({"size": None}, "^size is None: give a number from 2 to 6.$"),
        ({"size": True}, "^size is True"),
        ({"size": "wide"}, "^size is 'wide'"),
        ({"size": 6.5}, "^size is 6.5: give a number from 2 to 6.$"),
        ({"turn": math.nan}, "^turn is nan"),
        ({"hat": "helmet"}, "^hat is 'helmet': give none, cap or crown.$"),
        ({"hat": 1}, "^hat is 1: give"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_values_that_a_parameter_cannot_have(schema, change, message):
    with pytest.raises(ValueError, match=message):
        schema.from_names({"size": 3, "hat": "none", "turn": 0, **change})


def test_a_missing_parameter(schema):
    with pytest.raises(ValueError, match=r"^hat is missing: give none, cap or crown\.$"):
        schema.from_names({"size": 3, "turn": 0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Parameter("a", "continuous", symmetry=("b", (1,))), "'a'.*only a periodic"),
        (
            lambda: Schema(
                [Parameter("a", "periodic", symmetry=("b", (1,))), Parameter("b", "choice", values=("x", "y"))]
            ),
            "'a'.*an order for each of 'b'",
        ),
    ],
    ids=["kind", "orders"],
)
def test_mistaken_symmetries(make, message):
    with pytest.raises(ValueError, match=message):
        make()
