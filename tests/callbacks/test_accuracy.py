"""Evaluation by classifiers whose answers are known."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import ClassificationAccuracy, TransferAccuracy
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.features.helpers import Helper
from xdomain.methods import Classifier
from xdomain.metrics import NearestNeighbourAccuracy


class Reader(nn.Module):
    """Reads the class of an image out of its mean: classes 0, 1, 2 for dark, middle, bright."""

    in_channels, classes, dim = 3, 3, 1

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def features(self, images):
        return images.mean((1, 2, 3))[:, None]

    def forward(self, images):
        return -(self.features(images) - torch.tensor([[-0.5, 0.0, 0.5]])).abs() + self.bias


class Negative(ToyGAN):
    """Translates into the negative of the first channel."""

    def translate(self, images, source, target, **options):
        assert (source, target) == ("red", "grey")
        return -images[:, :1]


class Shades(ToyPair):
    """Images of one shade each: domain a as in ``a``, domain b as in ``b``, pairs (shade, label)."""

    a = ((-0.5, 2), (-0.5, 2), (-0.5, 0), (0.5, 0), (0.0, 1), (0.0, 2), (0.5, 0))
    b = ((-0.5, 0), (0.0, 1), (0.5, 1))
    labelled = True

    def data(self, role, split):
        shades, labels = zip(*getattr(self, role), strict=True)
        bytes_ = np.round((np.array(shades) + 1) * 127.5).astype(np.uint8)
        channels = {"a": 3, "b": 1}[role]
        images = np.broadcast_to(bytes_[:, None, None, None], (len(bytes_), channels, 8, 8))
        return ImageData(np.ascontiguousarray(images), np.array(labels) if self.labelled else None)


def reader_as_helper(callback):
    helper = Helper({"class_path": f"{__name__}.Reader"})
    helper.fetch = lambda strategy, root: None
    callback.helper = helper
    return callback


def measured(callback, data=None, **options):
    run = trainer(callbacks=[callback], **options)
    Shades.root = None
    run.test(Negative(), datamodule=data or Shades(eval_batch_size=2), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}, run


def test_transfer_accuracy_of_known_answers():
    values, run = measured(reader_as_helper(TransferAccuracy("reader_x", nearest_neighbour=False)))
    # negatives: 2 2 2 0 1 1 0 against labels 2 2 0 0 1 2 0
    assert values == pytest.approx(
        {
            "accuracy@reader-x": 5 / 7,
            "accuracy@reader-x/0": 2 / 3,
            "accuracy@reader-x/1": 1.0,
            "accuracy@reader-x/2": 2 / 3,
            "n@reader-x": 7,
            "accuracy_untranslated@reader-x": 2 / 7,  # 0 0 0 2 1 1 2
            "n_untranslated@reader-x": 7,
            "accuracy_real@reader-x": 2 / 3,  # 0 1 2 against 0 1 1
            "n_real@reader-x": 3,
        }
    )
    picture = Image.open(run.run_dir / "samples" / "confusion.png")
    assert picture.width == picture.height > 300


class Both(Negative):
    """The negative in both directions."""

    directions = (("red", "grey"), ("grey", "red"))

    def translate(self, images, source, target, **options):
        assert (source, target) == ("grey", "red")
        return -images.expand(-1, 3, -1, -1)


def test_the_other_direction():
    callback = reader_as_helper(TransferAccuracy("x", reverse=True))
    run = trainer(callbacks=[callback])
    Shades.root = None
    run.test(Both(), datamodule=Shades(eval_batch_size=2), verbose=False)
    values = {name: value.item() for name, value in run.callback_metrics.items()}
    # negatives: 2 1 0 against labels 0 1 1; real reds: 0 0 0 2 1 1 2 against 2 2 0 0 1 2 0
    wanted = {"": 1 / 3, "_untranslated": 2 / 3, "_real": 2 / 7}
    assert {name: values[f"accuracy{name}@x"] for name in wanted} == pytest.approx(wanted)
    assert values["n@x"] == 3
    # gallery: shade 0.5 -> 0, 0 -> 1, -0.5 -> 1; queries -0.5 -0.5 -0.5 0.5 0 0 0.5 with classes 2 2 0 0 1 2 0
    assert values["accuracy@1nn-test"] == pytest.approx(3 / 7)
    assert (run.run_dir / "samples" / "confusion_reverse.png").exists()


def test_nearest_neighbour_protocol_of_known_answers():
    values, _ = measured(reader_as_helper(TransferAccuracy("x", nearest_neighbour=True)))
    # gallery: shade 0.5 -> labels 2 2 0, -0.5 -> 0 0, 0 -> 1 2; queries -0.5, 0, 0.5 with classes 0 1 1
    assert values["accuracy@1nn-test"] == pytest.approx(2 / 3)
    assert values["accuracy@1nn-train"] == pytest.approx(2 / 3)


def test_validation_logs_the_total_only():
    callback = reader_as_helper(TransferAccuracy("x"))
    run = trainer(callbacks=[callback])
    Shades.root = None
    run.validate(Negative(), datamodule=Shades(), verbose=False)
    assert {name: value.item() for name, value in run.callback_metrics.items()} == pytest.approx(
        {"val/accuracy@x": 5 / 7, "val/accuracy_untranslated@x": 2 / 7, "val/accuracy_real@x": 2 / 3}
    )


def test_a_domain_without_labels_is_refused():
    data = Shades()
    data.labelled = False
    with pytest.raises(UserError, match="needs labels, but red has none"):
        measured(reader_as_helper(TransferAccuracy("x", nearest_neighbour=False)), data)


def test_names_of_classifiers():
    assert TransferAccuracy("handwritten_classifier").name == "handwritten-classifier"
    assert TransferAccuracy("runs/mine/0001").name == "own-classifier"


def test_classification_accuracy_of_known_answers():
    class OneDomain(Shades):
        domains, channels = ("red",), (3,)

    run = trainer(callbacks=[ClassificationAccuracy()])
    run.test(Classifier(Reader(), domains=("red",), channels=(3,), image_size=8), datamodule=OneDomain(), verbose=False)
    # answers 0 0 0 2 1 1 2 against labels 2 2 0 0 1 2 0
    assert {name: value.item() for name, value in run.callback_metrics.items()} == pytest.approx(
        {"accuracy": 2 / 7, "accuracy/0": 1 / 3, "accuracy/1": 1.0, "accuracy/2": 0.0, "n": 7}
    )


@pytest.mark.parametrize("chunk", [3, 512])
def test_nearest_neighbours_equal_scikit_learn(chunk):
    rng = np.random.default_rng(0)
    gallery, queries = rng.normal(size=(60, 1, 3, 3)), rng.normal(size=(40, 1, 3, 3))
    labels, truth = rng.integers(0, 4, 60), rng.integers(0, 4, 40)
    metric = NearestNeighbourAccuracy(chunk=chunk)
    for begin in range(0, 60, 25):
        part = slice(begin, begin + 25)
        metric.update(torch.from_numpy(queries[part]), torch.from_numpy(truth[part]), gallery=False)
        metric.update(torch.from_numpy(gallery[part]), torch.from_numpy(labels[part]), gallery=True)
    reference = KNeighborsClassifier(1).fit(gallery.reshape(60, -1), labels)
    assert metric.compute().item() == pytest.approx(reference.score(queries.reshape(40, -1), truth))


def test_shades_are_what_the_tests_say():
    images = to_float(torch.from_numpy(Shades().data("b", "test").images))
    assert images.mean((1, 2, 3)).tolist() == pytest.approx([-0.5, 0.0, 0.5], abs=0.005)


def test_making_the_judge_leaves_the_random_state_alone(monkeypatch):
    class Drawing:
        classes = 3

        def __init__(self, name):
            torch.rand(5)

        def fetch(self, strategy, root):
            """Nothing to fetch."""

        def to(self, device):
            return self

    monkeypatch.setattr("xdomain.callbacks.evaluation.Helper", Drawing)
    callback, model = TransferAccuracy("judge"), ToyGAN()
    model.trainer = trainer(max_steps=1)
    model.trainer.datamodule = ToyPair()
    model.trainer.datamodule.root = None
    before = torch.get_rng_state()
    callback.setup(model.trainer, model, "fit")
    callback.begin(model.trainer, model)
    assert torch.equal(before, torch.get_rng_state())
