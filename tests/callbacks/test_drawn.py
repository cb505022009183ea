"""Quality of drawn images, on generators that draw unseen images, training images or noise."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import DrawnQuality
from xdomain.data import BaseDataModule, ImageData
from xdomain.errors import UserError
from xdomain.methods import TwoStep

SIZE, COUNT = 16, 60


class Blobs(BaseDataModule):
    """Bright squares on dark ground; domain ``yes`` has them on bright ground."""

    domains, channels, image_size, root = ("no", "yes"), (3, 3), SIZE, None

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        images = rng.integers(0, 60, (COUNT, 3, SIZE, SIZE)) + 120 * (role == "b")
        for image, (y, x) in zip(images, rng.integers(0, SIZE - 5, (COUNT, 2)), strict=True):
            image[:, y : y + 5, x : x + 5] = 255
        return ImageData(images.astype(np.uint8))


class Gallery(nn.Module):
    """G: an image of a part of the data, chosen by z, with noise."""

    def __init__(self, part, noise):
        super().__init__()
        self.images = torch.stack([to_float(torch.from_numpy(Blobs().data(role, part).images)) for role in "ab"])
        self.noise, self.weight = noise, nn.Parameter(torch.zeros(1))

    def forward(self, z, y):
        chosen = (z[:, 0].erf() * 1e4).long() % COUNT
        return self.images[y, chosen] + self.noise * torch.randn(1, generator=torch.Generator().manual_seed(0))


def scores(part, noise=0.0, validate=False):
    nothing = lambda *_: nn.Linear(1, 1)  # noqa: E731
    facts = {"domains": ("no", "yes"), "channels": (3, 3), "image_size": SIZE}
    method = TwoStep(lambda *_: Gallery(part, noise), nothing, nothing, latent=4, **facts)
    run = trainer(callbacks=[DrawnQuality(count=60, val_count=60)])
    (run.validate if validate else run.test)(method, datamodule=Blobs(eval_batch_size=16), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_unseen_images_are_as_good_as_training_images_but_not_learned_by_heart():
    unseen, memory = scores("test"), scores("train")
    assert abs(unseen["kid_drawn@random-conv"]) < 0.3 * unseen["kid_blurred@random-conv"]
    assert abs(memory["kid_drawn@random-conv"]) < 0.3 * memory["kid_blurred@random-conv"]
    assert abs(memory["kid_training@random-conv"]) < 0.3 * memory["kid_blurred@random-conv"]
    assert memory["nearer_to_training"] == 1
    assert unseen["nearer_to_training"] == 0
    assert 0.25 < scores("val")["nearer_to_training"] < 0.75


def test_other_images_are_worse():
    assert scores("test", noise=0.5)["kid_drawn@random-conv"] > 2 * abs(scores("test")["kid_drawn@random-conv"])


def test_a_validation_measures_its_own_part():
    found = scores("val", validate=True)
    assert found["val/nearer_to_training"] == 0


def test_other_methods_are_refused():
    with pytest.raises(UserError, match="DrawnQuality is for TwoStep, not for ToyGAN: remove it"):
        trainer(callbacks=[DrawnQuality()]).test(ToyGAN(), datamodule=ToyPair(), verbose=False)


@pytest.mark.parametrize("name", ["count", "val_count"])
def test_counts_must_be_larger_than_one(name):
    with pytest.raises(UserError, match=f"{name} is 1: give a number of at least 2"):
        DrawnQuality(**{name: 1})
