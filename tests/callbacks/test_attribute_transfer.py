"""Change of a domain's attribute and preservation of the others, on images whose quarters are their attributes."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.callbacks.judges import Held
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import AttributeTransfer
from xdomain.callbacks import attribute_transfer as room
from xdomain.data import ImageData
from xdomain.data.attributes import AttributeDomains
from xdomain.errors import UserError
from xdomain.methods import Method

NAMES = ("Male", "Smiling", "Eyeglasses", "Wearing_Hat")
QUARTERS = ((0, 0), (0, 4), (4, 0), (4, 4))


class Quarters(AttributeDomains):
    """An attribute is a bright quarter. Only men have hats, one in two."""

    attribute_names = NAMES
    image_size = 8

    def __init__(self, domains=None, **options):
        super().__init__(domains or {"male": "Male", "female": "not Male"}, flip=False, **options)

    def load(self, split):
        table = np.array([[m, s, g, m * (i % 2)] for i in range(5) for m in (0, 1) for s in (0, 1) for g in (0, 1)])
        images = np.zeros((len(table), 3, 8, 8), dtype=np.uint8)
        for row, values in enumerate(table):
            for (top, left), value in zip(QUARTERS, values, strict=True):
                images[row, :, top : top + 4, left : left + 4] = 255 * value
        return ImageData(images, None, table.astype(np.uint8))


class Editor(Method):
    """Turns the quarter of the first attribute; takes glasses from half of the images, and smiles from all."""

    def __init__(self, domains=("male", "female"), spoil=True):
        super().__init__(domains, (3,) * len(domains), 8)
        self.spoil = spoil
        self.weight = nn.Parameter(torch.zeros(1))

    @property
    def directions(self):
        return tuple((a, b) for a in self.domains for b in self.domains)

    def build_optimizers(self):
        return {"g": self.optimizer(self.parameters())}

    def translate(self, images, source, target):
        images = images.clone()
        images[..., :4, :4] = 1 if target == "male" else -1
        if self.spoil:
            images[::2, :, 4:, :4] = -1
            images[:, :, :4, 4:] = -1
        return images


class Reads(nn.Module):
    """The classifier: reads the quarters."""

    def forward(self, images):
        return torch.stack([images[:, 0, top, left] for top, left in QUARTERS], 1)


@pytest.fixture(autouse=True)
def _judge(monkeypatch):
    monkeypatch.setattr(room, "helper_targets", lambda _: NAMES)
    monkeypatch.setattr(room, "build_judge", lambda _: Held(Reads()))
    monkeypatch.setattr(room, "fetch_judge", lambda judge, *_: judge)


def measured(method, data=None, **options):
    run = trainer(callbacks=[AttributeTransfer("reads", **options)])
    run.test(method, datamodule=data or Quarters(eval_batch_size=4), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_a_perfect_translation():
    found = measured(Editor(spoil=False))
    for direction in ("male_to_female", "female_to_male"):
        assert found[f"target_rate/{direction}"] == 1
        assert found[f"target_rate_untranslated/{direction}"] == 0
        assert found[f"target_rate_random/{direction}"] == 1
        assert found[f"n/{direction}"] == 20
        for name in ("Smiling", "Eyeglasses"):
            assert found[f"kept/{name}/{direction}"] == 1
            assert found[f"kept_balanced/{name}/{direction}"] == 1
            assert found[f"kept_untranslated/{name}/{direction}"] == 1
            assert 0.2 < found[f"kept_random/{name}/{direction}"] < 0.8
    assert "kept/Wearing_Hat/male_to_female" not in found  # no woman has one
    assert found["kept/Wearing_Hat/female_to_male"] == 1
    assert "kept_balanced/Wearing_Hat/female_to_male" not in found  # all of these are without
    assert not [name for name in found if "Male" in name or "/male_to_male" in name or "drawn" in name]


def test_what_is_lost_is_counted():
    found = measured(Editor())
    data = Quarters()
    for source, target, role in (("male", "female", "a"), ("female", "male", "b")):
        table = data.data(role, "test").attributes
        direction = f"{source}_to_{target}"
        assert found[f"kept/Smiling/{direction}"] == pytest.approx((table[:, 1] == 0).mean())
        assert found[f"kept_balanced/Smiling/{direction}"] == 0.5
        assert 0.5 < found[f"kept/Eyeglasses/{direction}"] < 1


def test_a_validation_is_short():
    run = trainer(callbacks=[AttributeTransfer("reads", val_count=6)])
    run.validate(Editor(), datamodule=Quarters(), verbose=False)
    assert run.callback_metrics["val/target_rate/male_to_female"] == 1
    assert not [name for name in run.callback_metrics if "untranslated" in name or "random" in name]


def test_between_three_domains():
    rules = {"male": "Male", "hat": "Wearing_Hat", "female": "not Male"}
    found = measured(Editor(tuple(rules), spoil=False), Quarters(rules, eval_batch_size=4))
    rates = {name: value for name, value in found.items() if name.startswith("target_rate/")}
    assert len(rates) == 6
    assert rates["target_rate/hat_to_female"] == 1
    assert rates["target_rate/female_to_hat"] == 0  # it has put on none
    assert not [name for name in found if "Hat" in name]


@pytest.mark.parametrize(
    ("callback", "method", "data", "message"),
    [
        (lambda: AttributeTransfer("reads"), ToyGAN, ToyPair, "needs data with attributes, but ToyPair has none"),
        (
            lambda: AttributeTransfer("reads"),
            lambda: Editor(("kind", "unkind")),
            lambda: Other({"kind": "Kind", "unkind": "not Kind"}),
            "the domains differ in Kind: give another",
        ),
    ],
    ids=["no attributes", "other attributes"],
)
def test_what_does_not_fit_is_refused(callback, method, data, message):
    with pytest.raises(UserError, match=message):
        trainer(callbacks=[callback()]).test(method(), datamodule=data(), verbose=False)


class Other(Quarters):
    """The same with another name for the first attribute."""

    attribute_names = ("Kind", *NAMES[1:])


@pytest.mark.parametrize("name", ["count", "val_count"])
def test_counts_must_be_positive(name):
    with pytest.raises(UserError, match=f"{name} is 0: give a number of images of at least 1"):
        AttributeTransfer("reads", **{name: 0})
