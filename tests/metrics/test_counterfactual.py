"""Distances to the counterfactual against numpy and scipy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from xdomain.metrics.counterfactual import CounterfactualError


def images(n=5, noise=0.3, channels=3):
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.normal(size=(n, channels, 24, 20)), (0, 0, 2, 2)) * 2
    return (truth + noise * rng.normal(size=truth.shape)).astype(np.float32), truth.astype(np.float32)


def masks(n=5):
    """Soft masks; the first is empty, the second is full."""
    rng = np.random.default_rng(1)
    mask = rng.random((n, 1, 24, 20)).astype(np.float32)
    mask[:, :, :10] = 0
    mask[0], mask[1] = 0, 1
    return mask


def measured(output, truth, mask=None):
    metric = CounterfactualError()
    for batch in zip(*(torch.as_tensor(x).split(2) for x in (output, truth, mask) if x is not None), strict=True):
        metric.update(*batch)
    return {name: value.item() for name, value in metric.compute().items()}


def ssim_by_scipy(x, y):
    """Wang et al. 2004, equation (13) on [0, 1], one channel."""

    def blur(z):
        return gaussian_filter(z, 1.5, mode="mirror", radius=5)

    x, y = (x.astype(np.float64) + 1) / 2, (y.astype(np.float64) + 1) / 2
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    return np.mean((2 * mx * my + 0.01**2) * (2 * vxy + 0.03**2) / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2)))


def test_values_equal_numpy_and_scipy():
    output, truth = images()
    mask = masks()
    assert np.abs(output).max() > 1.2
    x, y = output.astype(np.float64).clip(-1, 1), truth.astype(np.float64).clip(-1, 1)

    def weighted(error, weights):
        kept = [i for i in range(5) if weights[i].sum() > 0]
        return np.mean([np.average(error[i].mean(0), weights=weights[i, 0]) for i in kept]), len(kept)

    expected = {
        "l1": np.mean(np.abs(x - y)),
        "psnr": 10 * np.log10(2**2 / np.mean((x - y) ** 2)),
        "ssim": np.mean([ssim_by_scipy(x[i, c], y[i, c]) for i, c in itertools.product(range(5), range(3))]),
        "n": 5,
    }
    assert measured(output, truth) == pytest.approx(expected, rel=1e-4)
    expected["l1_inside"], expected["n_inside"] = weighted(np.abs(x - y), mask)
    expected["mse_inside"], _ = weighted((x - y) ** 2, mask)
    expected["l1_outside"], expected["n_outside"] = weighted(np.abs(x - y), 1 - mask)
    expected["mse_outside"], _ = weighted((x - y) ** 2, 1 - mask)
    assert expected["n_inside"] == expected["n_outside"] == 4
    assert measured(output, truth, mask) == pytest.approx(expected, rel=1e-4)


def test_equal_images():
    _, truth = images()
    values = measured(truth, truth, masks())
    assert values.pop("ssim") == pytest.approx(1)
    assert values.pop("psnr") == math.inf
    assert {name: value for name, value in values.items() if not name.startswith("n")} == {
        f"{kind}_{where}" if where else kind: 0
        for kind, where in (("l1", ""), *itertools.product(("l1", "mse"), ("inside", "outside")))
    }


def test_black_against_white():
    values = measured(-torch.ones(2, 1, 16, 16), torch.ones(2, 1, 16, 16))
    assert values == pytest.approx({"l1": 2, "psnr": 0, "ssim": 0.01**2 / (1 + 0.01**2), "n": 2}, abs=1e-5)


def test_errors_grow_with_the_noise():
    values = [measured(*images(noise=noise), masks()) for noise in (0.0, 0.05, 0.2, 0.5, 1.0)]
    for name in ("l1", "l1_inside", "mse_inside", "l1_outside", "mse_outside", "psnr", "ssim"):
        series = [value[name] * (-1 if name in ("psnr", "ssim") else 1) for value in values]
        assert all(a < b for a, b in itertools.pairwise(series)), name


def test_what_is_beyond_the_range_is_clamped():
    output, truth = images()
    loud = torch.from_numpy(np.where(np.abs(output) > 1, output * 100, output))
    assert measured(loud, torch.from_numpy(truth)) == measured(output, truth)
    mask = np.round(masks())
    assert measured(output, truth, mask * 3 - 1) == measured(output, truth, mask)


def test_error_is_told_where_it_is():
    truth, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 4:8, :] = 1
    inside = measured(truth + 0.5 * mask, truth, mask)
    assert (inside["l1_inside"], inside["mse_inside"], inside["l1_outside"]) == (0.5, 0.25, 0)
    outside = measured(truth + 0.5 * (1 - mask), truth, mask)
    assert (outside["l1_outside"], outside["mse_outside"], outside["l1_inside"]) == (0.5, 0.25, 0)


def test_masks_of_uint8():
    output, truth = images()
    mask = (torch.from_numpy(masks()) * 255).round().byte()
    assert measured(output, truth, mask) == pytest.approx(measured(output, truth, mask.float() / 255))


def test_an_empty_mask_is_left_out():
    values = measured(*images(2), np.zeros((2, 1, 24, 20), np.float32))
    assert "l1_inside" not in values
    assert "n_inside" not in values
    assert values["n_outside"] == 2
    assert values["l1_outside"] == pytest.approx(values["l1"])


def test_two_halves_make_the_whole():
    output, truth, mask = (torch.from_numpy(x) for x in (*images(), masks()))
    one, two = CounterfactualError(), CounterfactualError()
    one.update(output[:3], truth[:3], mask[:3])
    two.update(output[3:], truth[3:], mask[3:])
    one.merge_state(two)
    merged = {name: value.item() for name, value in one.compute().items()}
    assert merged == pytest.approx(measured(output, truth, mask))


def test_other_shapes_and_kinds_are_refused():
    metric, image = CounterfactualError(), torch.zeros(2, 3, 16, 16)
    with pytest.raises(ValueError, match="differ in shape"):
        metric.update(image, image[:, :1])
    with pytest.raises(ValueError, match="must be float"):
        metric.update(image.byte(), image)
    with pytest.raises(ValueError, match="do not fit"):
        metric.update(image, image, image)
    assert metric.counts.sum() == 0
