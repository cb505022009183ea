"""Accuracy under random guides: red is the class, green what a guide gives, and the judge is misled by green."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.callbacks.judges import Held
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import GuidedAccuracy
from xdomain.callbacks.accuracy import draw_guides
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import ContentMethod

CLASSIFIERS = {"ink": "ink_judge", "paint": "paint_judge+more"}
D = {"ink_to_paint": "ink_to_paint@paint-judge+more", "paint_to_ink": "paint_to_ink@ink-judge"}


class Shades(ToyPair):
    """Images of one colour each; labels follow the red, most of them."""

    domains, channels = ("ink", "paint"), (3, 3)
    unlabelled = ()

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        count = {"a": 60, "b": 45}[role]
        colours = rng.integers(0, 256, (count, 3), dtype=np.uint8)
        labels = np.where(rng.random(count) < 0.8, colours[:, 0] // 86, rng.integers(0, 3, count)).astype(np.int64)
        images = np.ascontiguousarray(np.broadcast_to(colours[:, :, None, None], (count, 3, 8, 8)))
        return ImageData(images, None if role in self.unlabelled else labels)


class Brush(ContentMethod):
    """Red of the image, green of the guide, no blue."""

    def __init__(self, contents=("ink", "paint"), guided=True):
        super().__init__(domains=("ink", "paint"), channels=(3, 3), image_size=8)
        self.contents, self.guided = contents, guided

    def common(self, images):
        return images[:, :1]

    def separate(self, images, domain):
        return images[:, 1:2]

    def decode(self, codes, images):
        green = next((codes[d] for d in self.domains if d in codes), torch.zeros_like(codes["common"]))
        return torch.cat([codes["common"], green, torch.zeros_like(green)], 1)


class Judge(nn.Module):
    classes = 3

    def __init__(self, tilt):
        super().__init__()
        self.tilt = tilt

    def forward(self, images):
        red, green, _ = images.mean((2, 3)).split(1, 1)
        return -6 * (red - torch.tensor([-0.6, 0.0, 0.6])) ** 2 + green**3 * torch.tensor(self.tilt)


TILTS = {"ink": [9.0, -5.0, 0.0], "paint": [-4.0, 12.0, 1.0]}


PROCESS = {"testing": True, "limit_test_batches": 1.0, "strategy": None}


def prepared(**options):
    callback = GuidedAccuracy(CLASSIFIERS, **options)
    callback.judges = {domain: Held(Judge(tilt)) for domain, tilt in TILTS.items()}
    return callback


def measured(method=None, data=None, rank=0, world_size=1, **options):
    callback, method = prepared(**options), method or Brush()
    method.trainer = trainer(max_steps=1)
    method.trainer.datamodule = data or Shades()
    process = SimpleNamespace(**PROCESS, global_rank=rank, world_size=world_size)
    callback.begin(process, method)
    return {name: value.item() for name, value in callback.report(process, True).items()}


def logits_of(red, green, target):
    """What a judge says of float colours, in numpy."""
    return -6 * (red[..., None] - np.array([-0.6, 0.0, 0.6])) ** 2 + green[..., None] ** 3 * np.array(TILTS[target])


def by_hand(source, target, count, each, seed=0, split="test"):
    """The four accuracies, and those of two errors that one could make."""
    a, b = (Shades().data("ab"[Shades.domains.index(domain)], split) for domain in (source, target))
    x, y = (part.images[:, :, 0, 0] / 127.5 - 1 for part in (a, b))
    rows, guides = draw_guides(len(a), len(b), count, each, seed)
    logits = logits_of(np.broadcast_to(x[rows, 0], guides.shape), y[guides, 1], target)
    exps = np.exp(logits)
    mean = (exps / exps.sum(-1, keepdims=True)).mean(0)
    return {
        "accuracy": (logits[0].argmax(-1) == a.labels[rows]).mean(),
        f"accuracy_{each}_guides": (mean.argmax(-1) == a.labels[rows]).mean(),
        "accuracy_untranslated": (logits_of(x[rows, 0], x[rows, 1], target).argmax(-1) == a.labels[rows]).mean(),
        "accuracy_real": (logits_of(y[:, 0], y[:, 1], target).argmax(-1) == b.labels).mean(),
        "n": len(rows),
        "n_real": len(b),
    }, {
        "mean of logits": (logits.mean(0).argmax(-1) == a.labels[rows]).mean(),
        "labels of guides": (logits[0].argmax(-1) == b.labels[guides[0]]).mean(),
    }


def test_both_directions_equal_numpy():
    values, expected = measured(pairs=40, guides=5), {}
    for source, target in (Shades.domains, Shades.domains[::-1]):
        right, wrong = by_hand(source, target, 40, 5)
        expected |= {f"{name}/{D[f'{source}_to_{target}']}": value for name, value in right.items()}
        assert len({right["accuracy"], right["accuracy_5_guides"], *wrong.values()}) == 4
    assert values == pytest.approx(expected)


def test_all_source_images_and_no_more():
    for pairs in (None, 1000):
        values = measured(pairs=pairs, guides=2)
        assert [values[f"n/{D[name]}"] for name in D] == [60, 45]


def test_pairs_are_those_of_the_seed():
    first = measured(pairs=40, guides=5)
    assert measured(pairs=40, guides=5) == first
    assert measured(pairs=40, guides=5, seed=1) != first
    rows, guides = draw_guides(50, 7, 40, 3, seed=2)
    assert len(set(rows.tolist())) == 40
    assert guides.shape == (3, 40)
    assert set(guides.ravel().tolist()) == set(range(7))
    more_rows, more = draw_guides(50, 7, 40, 10, seed=2)
    assert np.array_equal(rows, more_rows)
    assert np.array_equal(guides, more[:3])
    assert (more[1:] != more[:-1]).any(1).all()


def test_processes_share_the_images():
    whole = measured(pairs=41, guides=5)
    parts = [measured(rank=rank, world_size=2, pairs=41, guides=5) for rank in range(2)]
    assert [part[f"n/{D['ink_to_paint']}"] for part in parts] == [21, 20]
    for key, value in whole.items():
        name, at = key.split("/")
        if not name.startswith("n"):
            sizes = [part[f"{'n_real' if name == 'accuracy_real' else 'n'}/{at}"] for part in parts]
            assert np.average([part[key] for part in parts], weights=sizes) == pytest.approx(value), key


def test_a_validation_has_one_guide_and_one_value():
    run = trainer(callbacks=[prepared(val_pairs=20)])
    run.validate(Brush(), datamodule=Shades(), verbose=False)
    expected = {}
    for name in D:
        right, _ = by_hand(*name.split("_to_"), 20, 1, split="val")
        expected[f"val/accuracy/{D[name]}"] = right["accuracy"]
    assert {name: value.item() for name, value in run.callback_metrics.items()} == pytest.approx(expected)


def test_in_the_test_of_lightning():
    run = trainer(callbacks=[prepared(pairs=40, guides=5)])
    (values,) = run.test(Brush(), datamodule=Shades(), verbose=False)
    assert values == pytest.approx(measured(pairs=40, guides=5))


def test_what_has_no_guides_is_not_averaged():
    marginal = f"accuracy_10_guides/{D['paint_to_ink']}"
    assert marginal in measured()
    assert not [name for name in measured(guides=1) if "guides" in name]
    assert not [name for name in measured(Brush(guided=False)) if "guides" in name]
    assert [name for name in measured(Brush(contents=("ink",))) if "guides" in name] == [marginal]


def test_a_direction_without_classifier_is_left_out():
    """Its source, which is the other's target, needs no labels then."""
    callback, method, data = GuidedAccuracy({"paint": "paint_judge+more"}), Brush(), Shades()
    callback.judges = {"paint": Held(Judge(TILTS["paint"]))}
    method.trainer, data.unlabelled = trainer(max_steps=1), ("b",)
    method.trainer.datamodule = data
    process = SimpleNamespace(**PROCESS, global_rank=0, world_size=1)
    callback.begin(process, method)
    assert {name.split("/")[0] for name in callback.report(process, True)} == {
        *("accuracy", "accuracy_10_guides", "accuracy_untranslated", "n"),
    }
    assert {name.split("/")[1] for name in callback.report(process, True)} == {D["ink_to_paint"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifiers": {}}, "GuidedAccuracy: classifiers is empty"),
        ({"guides": 0}, "GuidedAccuracy: guides is 0: give a number of at least 1"),
        ({"pairs": 0}, "GuidedAccuracy: pairs is 0"),
        ({"val_pairs": -1}, "GuidedAccuracy: val_pairs is -1"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        GuidedAccuracy(**{"classifiers": CLASSIFIERS, **options})


def test_what_is_refused_before_a_classifier_is_trained(monkeypatch):
    monkeypatch.setattr("xdomain.callbacks.accuracy.build_judge", lambda source: Held(Judge(TILTS["ink"])))
    monkeypatch.setattr("xdomain.callbacks.accuracy.fetch_judge", None)
    data = Shades()
    data.unlabelled = ("b",)
    for callback, method, data_, message in (
        (GuidedAccuracy(CLASSIFIERS), Brush(), data, "needs labels, but paint has none: remove it"),
        (GuidedAccuracy({"oil": "x"}), Brush(), Shades(), "unknown domain 'oil': this data has ink and paint"),
        (GuidedAccuracy(CLASSIFIERS), ToyGAN(), ToyPair(), "needs guides, but ToyGAN takes none: remove it"),
    ):
        method.trainer = trainer(max_steps=1)
        method.trainer.datamodule = data_
        with pytest.raises(UserError, match=message):
            callback.setup(method.trainer, method, "fit")
