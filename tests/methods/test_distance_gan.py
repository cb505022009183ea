"""DistanceGAN: distances in deviations of each domain."""

import copy

import pytest
import torch

from tests.methods.domains import cyclegan_losses, tiny
from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, one_step
from xdomain.errors import UserError
from xdomain.methods import DistanceGAN
from xdomain.optim import GANAdam

GOLDEN = {"DistanceGAN": lambda: (tiny(DistanceGAN, halves=0.5, cycle=1.0, optimizer=GANAdam), Faces())}


def test_distance_gan_adds_its_losses_in_deviations_of_each_domain():
    method = tiny(DistanceGAN, pairs=0.7, halves=0.3)
    m = copy.deepcopy(method)
    updates, logged = one_step(method)
    x, y = first_batch()
    data = Faces()
    whole = [data.data(role, "train").images for role in "ab"]
    whole = [torch.from_numpy(images.copy()).float() / 127.5 - 1 for images in whole]

    def pairs(images):
        n = len(images)
        return torch.stack([(images[i] - images[j]).abs().mean() for i in range(n) for j in range(i + 1, n)])

    def halves(images):
        return (images[:, :, :8] - images[:, :, 8:]).abs().mean((1, 2, 3))

    def moved(distance, images, fakes, source, target):
        of, to = distance(whole[source]), distance(whole[target])
        before = (distance(images) - of.mean()) / of.std(correction=0)
        return (before - (distance(fakes) - to.mean()) / to.std(correction=0)).abs().mean()

    losses = cyclegan_losses(m, x, y, cycle=0, identity=0)
    for name, distance, weight in (("l_pairs", pairs, 0.7), ("l_halves", halves, 0.3)):
        losses[name] = weight * 2 * (moved(distance, x, m.G(x), 0, 1) + moved(distance, y, m.F(y), 1, 0))  # root of 4
    assert {name: logged[name] for name in losses} == pytest.approx({n: v.item() for n, v in losses.items()}, rel=1e-4)
    assert_gradients(updates[0].gradients, sum(losses.values()), m, noise=1e-4)


def test_distance_gan_needs_two_images_in_a_batch():
    with pytest.raises(UserError, match="batch_size of at least 2"):
        fitted(tiny(DistanceGAN), data=Faces(batch_size=1))
    with pytest.raises(UserError, match="neither pairs nor halves"):
        tiny(DistanceGAN, pairs=0)
