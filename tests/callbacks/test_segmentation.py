"""Segmentation of both domains, judged by a method whose answers are known."""

import pytest
import torch

from tests.methods.test_fada import CLASSES, Labelled, Secret, make
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import SegmentationAccuracy, SegmentationGrid
from xdomain.errors import UserError
from xdomain.metrics.segmentation import SegmentationScores


def values_of(method, data):
    (values,) = trainer(callbacks=[SegmentationAccuracy()]).test(method, datamodule=data, verbose=False)
    return values


def knowing(method):
    """The method, with the rule that the label maps follow."""
    method.forward = lambda images: torch.eye(3)[((images[:, 0] + 1) * 127.5).round().long() // 86].movedim(-1, 1)
    return method


def test_the_truth_has_full_marks_and_a_constant_answer_stands_beside():
    values = values_of(knowing(make()), Labelled())
    for domain in Labelled.domains:
        found = {name.partition("/")[0] for name, value in values.items() if value == 1 and name.endswith(domain)}
        assert found == {"miou", "pixel_accuracy", "class_accuracy", *(f"iou_{name}" for name in CLASSES)}
        assert values[f"miou_largest/{domain}"] == pytest.approx(values[f"pixel_accuracy_largest/{domain}"] / 3)


def test_wrong_answers_are_counted_over_the_whole_set():
    method, data = make().eval(), Labelled(eval_batch_size=5)
    values = values_of(method, data)
    whole = data.data("b", "test").__getitems__(list(range(12)))
    scores = SegmentationScores(3)
    scores.update(method(whole.image / 127.5 - 1).argmax(1), whole.label_map)
    assert values["miou/plain"] == pytest.approx(scores.compute()["miou"].item())
    assert 0 < values["miou/plain"] < 0.9


def test_pictures_show_images_truth_and_answer_of_both_domains():
    data = Secret()
    picture = SegmentationGrid(4).grid(data, knowing(make()), testing=True)
    size = data.image_size + 1
    assert picture.shape == (3, 6 * size + 1, 4 * size + 1)
    rows = [picture[:, 1 + i * size : (i + 1) * size, 1:size] for i in range(6)]
    for image, truth, found in (rows[:3], rows[3:]):
        assert torch.equal(truth[:, 1:], found[:, 1:])  # the first line has unknown pixels
        assert (truth[:, 0, :3] == 0).all()
        assert not torch.equal(image, truth)


def test_other_methods_are_refused():
    for callback in (SegmentationAccuracy(), SegmentationGrid()):
        with pytest.raises(UserError, match="ToyGAN"):
            trainer(callbacks=[callback]).test(ToyGAN(), datamodule=ToyPair())
