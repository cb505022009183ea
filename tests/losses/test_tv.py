"""Total variation against a loop over pixels."""

import numpy as np
import pytest
import torch

from xdomain.losses import total_variation


def by_loop(images, power, eps):
    n, c, h, w = images.shape
    total = 0.0
    for i in range(n):
        for k in range(c):
            for y in range(h - 1):
                for x in range(w - 1):
                    here = images[i, k, y, x]
                    squares = (images[i, k, y, x + 1] - here) ** 2 + (images[i, k, y + 1, x] - here) ** 2
                    total += (squares + eps) ** (power / 2) - eps ** (power / 2)
    return total / (n * c)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_equals_the_loop(power):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 5, 4))
    ours = total_variation(torch.from_numpy(images), power=power)
    assert ours.item() == pytest.approx(by_loop(images, power, 1e-6), rel=1e-9)


def test_step_edge_counts_its_length_times_its_height():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4:] = 0.5
    assert total_variation(image).item() == pytest.approx(8 * 0.5, abs=0.02)


def test_flat_image_has_no_variation_and_a_finite_gradient():
    image = torch.full((1, 1, 6, 6), 0.3, requires_grad=True)
    value = total_variation(image)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    assert image.grad is not None
    assert torch.equal(image.grad, torch.zeros_like(image))
