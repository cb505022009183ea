"""The losses of whole-domain translation against closed forms."""

import math

import pytest
import torch

from xdomain.losses import bce_gan, half_distances, l_distance, lsgan, pair_distances, patch_nce
from xdomain.losses.distance import statistics


def test_least_squares_and_cross_entropy_of_a_discriminator_that_knows_nothing():
    half = torch.full((2, 1, 3, 3), 0.5)
    assert lsgan(half, True) == lsgan(half, False) == 0.25
    assert lsgan([half, half[:, :, :1]], True) == 0.5  # scales are summed
    assert lsgan(torch.ones(3), True) == 0
    assert bce_gan(torch.zeros(5), True).item() == pytest.approx(math.log(2))
    assert bce_gan([torch.zeros(5), torch.zeros(2, 1)], False).item() == pytest.approx(2 * math.log(2))
    assert bce_gan(torch.tensor([2.0]), False).item() == pytest.approx(math.log(1 + math.exp(2)))


def test_contrast_of_orthonormal_and_of_equal_features():
    eye = torch.eye(256).expand(2, -1, -1)
    expected = math.log1p(255 * math.exp(-1 / 0.07))
    assert patch_nce(eye, eye).item() == pytest.approx(expected, rel=3e-3)  # float32 near 1
    same = torch.ones(2, 256, 1)
    assert patch_nce(same, same).item() == pytest.approx(math.log(256), rel=1e-5)


def test_contrast_does_not_depend_on_the_order_of_places_and_keys_have_no_gradient():
    torch.manual_seed(0)
    q, k = (torch.nn.functional.normalize(torch.randn(2, 6, 4), dim=2).requires_grad_() for _ in range(2))
    order = torch.randperm(6)
    torch.testing.assert_close(patch_nce(q, k), patch_nce(q[:, order], k[:, order]))
    patch_nce(q, k).backward()
    assert k.grad is None
    assert q.grad.abs().max() > 0


def test_negatives_are_patches_of_the_same_image():
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 5, 4)
    alone = torch.stack([patch_nce(q[i : i + 1], k[i : i + 1]) for i in range(3)]).mean()
    torch.testing.assert_close(patch_nce(q, k), alone)


def test_distances_of_pairs_and_halves_equal_loops():
    images = torch.randn(4, 3, 6, 5)
    loop = [(images[i] - images[j]).abs().mean() for i in range(4) for j in range(i + 1, 4)]
    torch.testing.assert_close(pair_distances(images), torch.stack(loop))
    halves = [(x[:, :3] - x[:, 3:]).abs().mean() for x in images]
    torch.testing.assert_close(half_distances(images), torch.stack(halves))


@pytest.mark.parametrize("distances", [pair_distances, half_distances])
def test_isometries_and_scaling_keep_distances_in_their_place(distances):
    torch.manual_seed(0)
    images = torch.randn(5, 1, 4, 4)
    own = statistics(distances(images))
    assert l_distance(distances(images), distances(-images), own, own) < 1e-6
    scaled = 3 * images
    assert l_distance(distances(images), distances(scaled), own, statistics(distances(scaled))) < 1e-5
    assert l_distance(distances(images), distances(scaled), own, own) > 0.1


def test_statistics_are_mean_and_population_deviation():
    mean, std = statistics(torch.tensor([1.0, 3.0]))
    assert (mean, std) == (2, 1)
