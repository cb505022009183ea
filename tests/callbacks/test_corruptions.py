"""Errors on corrupted images and on shuffled casts against answers counted by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import ClassificationAccuracy, CorruptionRobustness, ShuffledCastAccuracy
from xdomain.data import CastDigits, ImageData
from xdomain.data.corruptions import corrupt
from xdomain.errors import UserError
from xdomain.methods import Classifier

SIZES = {"image_size": 24, "train_size": 8, "val_size": 10, "test_size": 12}


class Noise(ToyPair):
    """Labelled images of 32x32 pixels, some darker than others."""

    domains, channels, image_size, labelled = ("noise",), (3,), 32, True

    def data(self, role, split):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (12, 3, 32, 32)) * rng.uniform(0.2, 1, (12, 1, 1, 1))
        return ImageData(images.astype(np.uint8), rng.integers(0, 10, 12) if self.labelled else None)


class Rule(nn.Module):
    """Classes by the mean of the pixels: an answer that corruptions change."""

    in_channels, dim, head = 3, 1, nn.Identity()

    def __init__(self, classes):
        super().__init__()
        self.classes = classes
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        means = images.mean((1, 2, 3))[:, None]
        return -(means - torch.linspace(-0.5, 0.5, self.classes)).square() * self.scale


def classifier(data, classes):
    return Classifier(Rule(classes), domains=data.domains, channels=data.channels, image_size=32)


def test_errors_on_corrupted_images(monkeypatch):
    monkeypatch.setattr("xdomain.callbacks.corruptions.CORRUPTIONS", ("contrast", "pixelate"))
    data = Noise()
    method = classifier(data, 10)
    (found,) = trainer(callbacks=[CorruptionRobustness(count=4, seed=3)]).test(method, datamodule=data, verbose=False)
    chosen = [0, 4, 7, 11]
    part = data.data("a", "test").__getitems__(chosen)
    rates = []
    for severity in range(1, 6):
        images = corrupt(part.image, "contrast", severity, seed=3, indices=chosen)
        rates.append(float((method(to_float(images)).argmax(1) != part.label).float().mean()))
    assert found["error/contrast"] == pytest.approx(np.mean(rates))
    assert found["clean_error"] == pytest.approx(
        float((method(to_float(part.image)).argmax(1) != part.label).float().mean())
    )
    assert found["n_corrupted"] == 4
    assert 0 <= found["error/pixelate"] <= 1
    assert trainer(callbacks=[CorruptionRobustness()]).validate(method, datamodule=data, verbose=False) == [{}]


def test_accuracy_on_shuffled_casts():
    data = CastDigits(**SIZES)
    method = classifier(data, 10)
    callbacks = [ClassificationAccuracy(), ShuffledCastAccuracy()]
    (found,) = trainer(callbacks=callbacks).test(method, datamodule=data, verbose=False)
    for name, part in (("accuracy", data.data("a", "test")), ("accuracy_shuffled", data.shuffled("test"))):
        answers = method(to_float(torch.from_numpy(part.images.copy()))).argmax(1)
        assert found[name] == pytest.approx(float((answers == torch.from_numpy(part.labels)).float().mean()))
    assert found["n_shuffled"] == 12


def test_what_they_are_for():
    with pytest.raises(UserError, match="CorruptionRobustness is for classifiers, not for ToyGAN"):
        trainer(callbacks=[CorruptionRobustness()]).test(ToyGAN(), datamodule=ToyPair(), verbose=False)
    noise = Noise()
    with pytest.raises(UserError, match="for Classifier and CastDigits, not for Classifier and Noise"):
        trainer(callbacks=[ShuffledCastAccuracy()]).test(classifier(noise, 10), datamodule=noise, verbose=False)
    with pytest.raises(UserError, match="count is 0"):
        CorruptionRobustness(count=0)


def test_labels_are_needed():
    data = Noise()
    data.labelled = False
    with pytest.raises(UserError, match="needs labels, but noise has none"):
        trainer(callbacks=[CorruptionRobustness()]).test(classifier(data, 10), datamodule=data, verbose=False)
