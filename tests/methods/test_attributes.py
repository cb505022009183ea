"""The classifier of attributes: its targets, its weights, its loss."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.toys import ToyPair, trainer
from xdomain.batch import Sample
from xdomain.callbacks import AttributeAccuracy
from xdomain.data import ImageData
from xdomain.data.attributes import AttributeDomains
from xdomain.errors import UserError
from xdomain.methods import AttributeClassifier

TARGETS = {"Red": "Red", "Odd": "Red and not Blue or not Red and Blue"}


class Dots(AttributeDomains):
    """Images whose mean of the first two channels says the two attributes."""

    attribute_names = ("Blue", "Red")
    image_size = 8

    def load(self, split):
        rng = np.random.default_rng(len(split))
        table = (rng.random((200, 2)) < (0.5, 0.2)).astype(np.uint8)
        images = np.full((200, 3, 8, 8), 128, np.uint8)
        images[:, 0], images[:, 1] = (60 + 130 * table[:, i, None, None] for i in (1, 0))
        return ImageData(images, None, table)


class Means(nn.Module):
    """Two logits out of the means of the channels."""

    in_channels, classes, dim = 3, 2, 3

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, images):
        return self.layers(images.mean((2, 3)))


def method(**options):
    options = {"network": Means(), "targets": TARGETS, "domains": ("dot",), "channels": (3,), "image_size": 8} | options
    return AttributeClassifier(**options)


def dots(**options):
    return Dots(domains={"dot": "*"}, batch_size=32, **options)


GOLDEN = {"AttributeClassifier": lambda: (method(optimizer=lambda p: torch.optim.SGD(p, lr=0.1)), dots())}


def attach(model, data):
    model.trainer = trainer(max_steps=1)
    model.trainer.datamodule = data
    return model


def test_targets_are_rules_over_the_attributes():
    sample = dots().data("a", "val").__getitems__([0, 1, 2, 3, 4, 5])
    truth = attach(method(), dots()).truth(sample)
    blue, red = sample.attributes.bool().T
    assert torch.equal(truth, torch.stack([red, red ^ blue], 1).float())


def test_loss_weighs_both_sides_of_a_target_equally(monkeypatch):
    model = attach(method(), dots())
    model.on_fit_start()
    share = model.truth(dots().data("a", "train").__getitems__(list(range(200)))).mean(0)
    torch.testing.assert_close(model.weights, (1 - share) / share)

    losses = []
    monkeypatch.setattr(model, "step", lambda name, loss: losses.append(loss()) or losses[-1].detach())
    monkeypatch.setattr(model, "log", lambda *args, **options: None)
    sample = dots().data("a", "val").__getitems__(list(range(40)))
    sample = sample._replace(image=sample.image.float() / 127.5 - 1)
    model.training_step({"a": sample}, 0)
    truth, p = model.truth(sample), torch.sigmoid(model(sample.image))
    by_hand = -(model.weights * truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    torch.testing.assert_close(losses[0], by_hand)


def test_it_learns():
    model = method(optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
    data = dots()
    run = trainer(max_steps=150, callbacks=[AttributeAccuracy()], val_check_interval=150)
    run.fit(model, data)
    assert run.callback_metrics["val/worst_accuracy"] > 0.97
    (values,) = run.test(model, data, verbose=False)
    assert values["n"] == 200
    assert values["balanced_accuracy/Odd"] > 0.97
    assert values["accuracy/Red"] > 0.97


def test_accuracy_of_known_answers(monkeypatch):
    model = attach(method(), dots())
    callback = AttributeAccuracy()
    callback.begin(model.trainer, model)
    attributes = torch.tensor([[0, 1], [0, 1], [0, 0], [0, 0], [1, 1]], dtype=torch.uint8)  # Red: 1 1 0 0 1
    logits = torch.tensor([[0.9, 0.1], [0.2, -0.4], [0.3, -0.2], [-0.1, -0.3], [0.6, 0.2]])  # within [0, 1] and around
    monkeypatch.setattr(model, "forward", lambda images: logits)
    callback.add(model, {"a": Sample(torch.zeros(5, 3, 8, 8), torch.arange(5), None, attributes)}, testing=True)
    values = callback.report(None, testing=True)
    assert values["accuracy/Red"] == pytest.approx(4 / 5)
    assert values["balanced_accuracy/Red"] == pytest.approx((1 + 1 / 2) / 2)
    # Odd: 1 1 0 0 0, seen 1 0 0 0 1
    assert values["accuracy/Odd"] == pytest.approx(3 / 5)
    assert values["balanced_accuracy/Odd"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["worst_accuracy"] == pytest.approx(3 / 5)


def test_a_target_that_all_images_have_has_no_balanced_accuracy(monkeypatch):
    model = attach(method(), dots())
    callback = AttributeAccuracy()
    callback.begin(model.trainer, model)
    attributes = torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8)  # Red: 1 1, Odd: 1 0
    monkeypatch.setattr(model, "forward", lambda images: torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    callback.add(model, {"a": Sample(torch.zeros(2, 3, 8, 8), torch.arange(2), None, attributes)}, testing=True)
    values = callback.report(None, testing=True)
    assert "balanced_accuracy/Red" not in values
    assert values["balanced_accuracy"] == values["balanced_accuracy/Odd"] == 0.5


def test_what_it_refuses():
    with pytest.raises(UserError, match="classes is 2, but there are 1 targets"):
        method(targets={"Red": "Red"})
    with pytest.raises(UserError, match="the target Never holds for 0% of the training images"):
        attach(method(targets={"Red": "Red", "Never": "Red and not Red"}), dots()).on_fit_start()
    with pytest.raises(UserError, match="asks for the attribute 'Green'"):
        attach(method(targets={"Red": "Red", "Green": "Green"}), dots()).on_fit_start()
    with pytest.raises(UserError, match="needs attributed data such as Avatars, not ToyPair"):
        attach(method(), ToyPair()).truth(Sample(torch.zeros(1, 3, 8, 8), torch.zeros(1), None, torch.zeros(1, 2)))
    with pytest.raises(UserError, match="needs them, but dot has none"):
        attach(method(), dots()).truth(Sample(torch.zeros(1, 3, 8, 8), torch.zeros(1)))
