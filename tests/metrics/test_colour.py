"""Correlations of colours against numpy."""

import numpy as np
import pytest
import torch

from xdomain.metrics import ColourCorrelation


def test_correlations_are_numpys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12, 3, 5, 4)) * 0.3
    y += 0.7 * x.mean((2, 3), keepdims=True) * np.array([1, 0, -2]).reshape(3, 1, 1)
    metric = ColourCorrelation(3)
    for images, others in zip(torch.tensor(x).split(5), torch.tensor(y).split(5), strict=True):
        metric.update(images.float(), others.float())
    wanted = np.mean([np.corrcoef(x[:, c].mean((1, 2)), y[:, c].mean((1, 2)))[0, 1] for c in range(3)])
    assert metric.compute().item() == pytest.approx(wanted, abs=1e-5)


def test_colours_that_do_not_vary_have_no_correlation():
    metric = ColourCorrelation(3)
    metric.update(torch.rand(6, 3, 4, 4), torch.full((6, 3, 4, 4), 0.3))
    assert metric.compute().isnan()
