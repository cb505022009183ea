"""Scores of label maps against another implementation, and colours against the engine's own reading."""

import pytest
import torch
from sklearn.metrics import jaccard_score
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from xdomain.batch import to_float
from xdomain.engines import facades
from xdomain.metrics.segmentation import SegmentationScores, nearest_classes


def test_scores_equal_those_of_torchmetrics():
    torch.manual_seed(0)
    truth = torch.randint(0, 5, (4, 9, 9))
    found = torch.where(torch.rand(4, 9, 9) < 0.6, truth, torch.randint(0, 5, (4, 9, 9)))
    scores = SegmentationScores(5)
    for f, t in zip(found.split(2), truth.split(2), strict=True):
        scores.update(f, t)
    values = scores.compute()
    expected = {
        "pixel_accuracy": MulticlassAccuracy(5, average="micro"),
        "class_accuracy": MulticlassAccuracy(5, average="macro"),
        "miou": MulticlassJaccardIndex(5, average="macro"),
    }
    for name, metric in expected.items():
        assert values[name].item() == pytest.approx(metric(found, truth).item(), rel=1e-5)


def test_classes_that_are_not_in_the_truth_do_not_count():
    scores = SegmentationScores(4)
    scores.update(torch.tensor([0, 0, 3, 1]), torch.tensor([0, 0, 1, 1]))
    values = scores.compute()
    assert values["class_accuracy"] == 0.75
    assert values["miou"] == 0.75


def test_exchanged_classes_are_a_legal_solution():
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    scores = SegmentationScores(3)
    scores.update(torch.tensor([1, 1, 1, 0, 0, 2]), truth)
    values = scores.compute()
    assert values["pixel_accuracy"].item() == pytest.approx(1 / 6)
    assert values["relabelled"] == 1


def test_the_nearest_colour_is_that_of_the_engine():
    torch.manual_seed(0)
    labels = torch.randint(1, 13, (2, 8, 8))
    painted = facades.labels_to_rgb(labels)
    noisy = (painted.int() + torch.randint(-9, 10, painted.shape)).clamp(0, 255).to(torch.uint8)
    assert torch.equal(nearest_classes(to_float(noisy), facades.PALETTE), facades.rgb_to_labels(noisy).long() - 1)
    assert torch.equal(nearest_classes(to_float(painted), facades.PALETTE), labels - 1)


def test_iou_of_every_class_is_that_of_scikit_learn_and_unknown_pixels_do_not_count():
    torch.manual_seed(0)
    truth = torch.randint(0, 4, (3, 9, 9), dtype=torch.uint8)
    found = torch.where(torch.rand(3, 9, 9) < 0.6, truth.long(), torch.randint(0, 5, (3, 9, 9)))
    truth[torch.rand(3, 9, 9) < 0.2] = 255
    scores = SegmentationScores(5)
    for f, t in zip(found, truth, strict=True):
        scores.update(f, t)
    known = truth != 255
    expected = jaccard_score(truth[known].numpy(), found[known].numpy(), average=None, labels=range(4))
    assert scores.iou()[:4].numpy() == pytest.approx(expected)
    assert scores.iou()[4].isnan()  # not in the truth, though it was found
    assert scores.compute()["miou"].item() == pytest.approx(expected.mean())


def test_a_constant_answer_has_the_share_of_its_class_over_the_number_of_classes():
    truth = torch.tensor([0] * 6 + [1] * 3 + [2])
    scores = SegmentationScores(3)
    scores.update(truth, truth)
    assert (scores.iou() == 1).all()
    constant = scores.largest()
    assert constant["pixel_accuracy"].item() == pytest.approx(0.6)
    assert constant["miou"].item() == pytest.approx(0.6 / 3)


def test_all_scores_are_of_all_ranks():
    """A rank whose images lack a class sees those of all ranks: else it would log other names than they do."""
    here, there, both = (SegmentationScores(3) for _ in range(3))
    mine, theirs = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[2, 2, 2, 2, 0]])
    for metric in (here, both):
        metric.update(torch.tensor([[0, 1, 1, 1]]), mine)
    for metric in (there, both):
        metric.update(torch.tensor([[2, 2, 0, 1, 0]]), theirs)
    other = there.confusion.clone()
    here.distributed_available_fn = lambda: True
    here.dist_sync_fn = lambda x, group=None: [x, other]
    assert torch.equal(here.iou(), both.iou())
    assert here.largest() == both.largest()
    assert here.compute() == both.compute()
