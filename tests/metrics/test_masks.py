"""Masks against scikit-learn's Jaccard index."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from xdomain.metrics.masks import THRESHOLDS, MaskIoU


def drawn(n=12, noise=0.3):
    """Soft masks that follow the true ones, which are squares; every third image shows nothing."""
    rng = np.random.default_rng(0)
    truth = np.zeros((n, 1, 10, 12), np.float32)
    for i in range(n):
        size = 0 if i % 3 == 0 else 2 + i % 5
        truth[i, :, 2 : 2 + size, 3 : 3 + size] = 1
    return (0.1 + 0.6 * truth + noise * rng.normal(size=truth.shape)).astype(np.float32), truth


def measured(soft, truth):
    metric = MaskIoU()
    for part in (slice(0, 5), slice(5, None)):
        metric.update(torch.as_tensor(soft)[part], torch.as_tensor(truth)[part])
    return metric


def test_every_threshold_equals_scikit_learn():
    soft, truth = drawn()
    values = measured(soft, truth).compute()
    assert len(THRESHOLDS) == 19
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == (0.05, 0.95)
    for threshold in THRESHOLDS:
        pixels = jaccard_score(truth.ravel() > 0.5, soft.ravel() > threshold)
        images = [
            jaccard_score(t.ravel() > 0.5, s.ravel() > threshold) for s, t in zip(soft, truth, strict=True) if t.any()
        ]
        assert values[f"iou@{threshold:.2f}"].item() == pytest.approx(pixels)
        assert values[f"per_image@{threshold:.2f}"].item() == pytest.approx(np.mean(images))
    assert values["n"] == 12
    assert values["n_shown"] == 8
    assert len(values) == 2 * 19 + 2


def test_the_best_threshold_is_the_best_and_its_value_can_be_asked():
    soft, truth = drawn(n=40, noise=0.15)
    metric = measured(soft, truth)
    scores = {t: jaccard_score(truth.ravel() > 0.5, soft.ravel() > t) for t in THRESHOLDS}
    best = max(scores, key=scores.get)
    assert metric.best_threshold() == best
    assert 0.2 < best < 0.6
    assert metric.iou_at(best).item() == pytest.approx(scores[best])
    assert metric.iou_at(0.1).item() == pytest.approx(scores[0.1])
    for between in (0.123, 0.0, 0.501):
        with pytest.raises(ValueError, match=f"{between} is none of the thresholds 0.05, 0.1,"):
            metric.iou_at(between)


def test_perfect_masks_score_one_at_any_threshold():
    _, truth = drawn()
    metric = measured(truth, truth)
    assert all(value == 1 for name, value in metric.compute().items() if "@" in name)
    assert metric.best_threshold() == 0.5


def test_score_falls_with_the_noise():
    scores = [measured(*drawn(30, noise)).iou_at(0.4).item() for noise in (0.0, 0.1, 0.3, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    assert scores[-1] < 0.5


@pytest.mark.parametrize("convert", [lambda x: (x * 255).round().byte(), lambda x: x * 3 - 1, lambda x: x > 0.5])
def test_other_kinds_of_masks(convert):
    _, truth = (torch.from_numpy(x) for x in drawn())
    expected = measured(truth * 0.7, truth).compute()["iou@0.50"]
    assert measured(truth * 0.7, convert(truth)).compute()["iou@0.50"] == expected
    assert measured(convert(truth), truth).compute()["iou@0.50"] == expected
    half = torch.full((1, 1, 4, 4), 128, dtype=torch.uint8)  # 0.502
    assert measured(half, torch.ones(1, 1, 4, 4)).compute()["iou@0.50"] == 1
    assert measured(half, torch.ones(1, 1, 4, 4)).compute()["iou@0.55"] == 0


def test_nothing_to_find():
    empty = torch.zeros(3, 1, 4, 4)
    values = measured(empty, empty).compute()
    assert math.isnan(values["iou@0.50"])
    assert math.isnan(values["per_image@0.50"])
    assert (values["n"], values["n_shown"]) == (3, 0)
    assert measured(empty, empty).best_threshold() == 0.5
    soft = empty.clone()
    soft[0, 0, 0, 0] = 0.7
    metric = measured(soft, empty)
    assert metric.iou_at(0.5) == 0
    assert math.isnan(metric.iou_at(0.9))
    assert metric.best_threshold() == 0.5


def test_two_halves_make_the_whole():
    soft, truth = (torch.from_numpy(x) for x in drawn())
    one, two = MaskIoU(), MaskIoU()
    one.update(soft[:7], truth[:7])
    two.update(soft[7:], truth[7:])
    one.merge_state(two)
    whole = measured(soft, truth).compute()
    assert {k: v.item() for k, v in one.compute().items()} == pytest.approx({k: v.item() for k, v in whole.items()})


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        MaskIoU().update(torch.ones(2, 1, 4, 4), torch.ones(2, 4, 4))
