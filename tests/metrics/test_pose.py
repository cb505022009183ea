"""The pose reader and correlations, against numpy and a direct solution."""

import numpy as np
import pytest
import torch

from xdomain.metrics.pose import KernelReader, correlations


def bars(places):
    """Images with a bright bar at a place in [0, 1]."""
    axis = torch.arange(32) / 31
    row = torch.exp(-(((axis - places[:, None]) / 0.1) ** 2)) * 2 - 1
    return row[:, None, None].expand(-1, 3, 32, -1)


def test_the_reader_reads_where_something_is():
    draw = torch.Generator().manual_seed(0)
    known, new = (torch.rand(count, generator=draw) for count in (200, 50))
    reader = KernelReader(bars(known), torch.stack([known, 3 - known], 1))
    found = reader(bars(new))
    torch.testing.assert_close(found[:, 0], new, atol=0.02, rtol=0)
    torch.testing.assert_close(found[:, 1], 3 - new, atol=0.06, rtol=0)


def test_it_is_ridge_regression_with_a_gaussian_kernel():
    draw = torch.Generator().manual_seed(0)
    x, new = (torch.rand(count, 1, 4, 4, generator=draw) for count in (9, 3))
    y = torch.rand(9, 1, generator=draw)
    reader = KernelReader(x, y, side=4)
    a, b = x.flatten(1).double().numpy(), new.flatten(1).double().numpy()
    distance = np.linalg.norm(a[:, None] - a[None], axis=2)
    width = torch.from_numpy(distance[distance > 0]).median().item()
    kernel = np.exp(-(distance**2) / (2 * width**2)) + 1e-3 * np.eye(9)
    mean = y.double().mean().item()
    weights = np.linalg.solve(kernel, y.double().numpy() - mean)
    wanted = np.exp(-(np.linalg.norm(b[:, None] - a[None], axis=2) ** 2) / (2 * width**2)) @ weights + mean
    np.testing.assert_allclose(reader(new).numpy(), wanted, rtol=1e-5)


def test_of_many_images_evenly_spaced_ones_are_fitted_to():
    places = torch.linspace(0, 1, 1500)
    reader = KernelReader(bars(places), places[:, None], side=8)
    assert len(reader.points) == 1000
    assert (reader(bars(places[:1])) - places[0]).abs() < 0.05
    assert (reader(bars(places[-1:])) - places[-1]).abs() < 0.05


def test_images_that_are_all_alike_are_read_as_the_mean():
    images, values = torch.zeros(5, 3, 8, 8), torch.arange(5.0)[:, None]
    assert KernelReader(images, values)(images[:1]).item() == pytest.approx(2)


def test_correlations_equal_numpy():
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.rand(40, 2, generator=draw) for _ in range(2))
    found = correlations(x, 2 + y)
    for k in range(2):
        assert found[k].item() == pytest.approx(np.corrcoef(x[:, k], y[:, k])[0, 1], abs=1e-5)
    assert correlations(x, -x).tolist() == pytest.approx([-1, -1])
    assert correlations(torch.ones(4, 1), torch.rand(4, 1)).isnan().all()
