"""Errors of parameters against values by hand."""

import pytest
import torch

from xdomain.engines import Polygons
from xdomain.metrics import ParameterErrors

SCHEMA = Polygons.schema


def test_by_hand():
    truth = torch.tensor([[1.0, 0.5, 0.1, 0.0, 0.0, 0.2, 0.2, 0.2], [0.0, 0.4, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]])
    u = truth.clone()
    u[0, 0] = 3
    u[0, 1] += 0.07  # a fifth of its range
    u[0, 2] += torch.pi / 2 - torch.pi / 36  # a square turned by 85 degrees
    u[1, 2] -= torch.pi / 90  # two degrees
    u[1, 7] = 0.1
    metric = ParameterErrors(SCHEMA)
    metric.update(u[:1], truth[:1])
    metric.update(u[1:], truth[1:])
    found = {name: value.item() for name, value in metric.compute().items()}
    expected = {"right/vertices": 0.5, "error/radius": 0.1, "degrees/rotation": 3.5, "error/x": 0, "error/y": 0}
    expected |= {"error/red": 0, "error/green": 0, "error/blue": 0.25}
    assert found == pytest.approx(expected, abs=1e-5)


def test_only_what_is_asked_for():
    u = Polygons().sample(torch.arange(4), 0)
    metric = ParameterErrors(SCHEMA, ["vertices"])
    metric.update(u, u)
    assert metric.compute() == {"right/vertices": 1.0}
