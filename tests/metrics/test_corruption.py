"""Errors under corruptions against sums written out, and AlexNet against itself."""

import pytest
import torch

from xdomain.errors import UserError
from xdomain.metrics.corruption import ALEXNET, ALEXNET_CLEAN, CorruptionErrors


def filled(share, clean=None, **options):
    """Metric of a classifier with the given error for a corruption and severity, in 1000 images each."""
    errors = CorruptionErrors(**options)
    labels = torch.zeros(1000, dtype=torch.int64)
    for name in ALEXNET:
        for severity in range(1, 6):
            answers = labels.clone()
            answers[: round(1000 * share(name, severity))] = 1
            errors.update(answers, labels, name, severity)
    if clean is not None:
        answers = labels.clone()
        answers[: round(1000 * clean)] = 1
        errors.update(answers, labels)
    return {name: float(value) for name, value in errors.compute().items()}


def test_alexnet_has_100():
    values = filled(lambda name, _: ALEXNET[name], ALEXNET_CLEAN, official_frost=True)
    assert values["mce@alexnet"] == pytest.approx(100, abs=0.1)
    assert values["relative_mce@alexnet"] == pytest.approx(100, abs=0.3)
    assert values["mean_corruption_error"] == pytest.approx(0.788993, abs=1e-4)  # as published
    assert values["clean_error"] == pytest.approx(0.435)


def test_means_written_out():
    number = {name: i for i, name in enumerate(ALEXNET)}

    def share(name, severity):
        return 0.02 * number[name] + 0.1 * severity

    values = filled(share, 0.1, official_frost=True)
    means = {name: 0.02 * i + 0.3 for name, i in number.items()}
    assert values["error/snow"] == pytest.approx(means["snow"])
    assert values["error/noise"] == pytest.approx(0.32)
    assert values["error/blur"] == pytest.approx(0.02 * (3 + 4 + 5 + 6) / 4 + 0.3)
    assert values["error/weather"] == pytest.approx(0.02 * (7 + 8 + 9 + 10) / 4 + 0.3)
    assert values["error/digital"] == pytest.approx(0.02 * (11 + 12 + 13 + 14) / 4 + 0.3)
    assert values["mean_corruption_error"] == pytest.approx(0.44)
    assert values["mce@alexnet"] == pytest.approx(100 * sum(means[n] / ALEXNET[n] for n in means) / 15, rel=1e-5)
    relative = sum((means[n] - 0.1) / (ALEXNET[n] - ALEXNET_CLEAN) for n in means) / 15
    assert values["relative_mce@alexnet"] == pytest.approx(100 * relative, rel=1e-5)


def test_generated_frost_has_a_star():
    values = filled(lambda *_: 0.5, 0.1)
    starred = {"error/frost*", "error/weather*", "mean_corruption_error*", "mce*@alexnet", "relative_mce*@alexnet"}
    assert {name for name in values if "*" in name} == starred


def test_no_mean_without_all_severities():
    errors = CorruptionErrors()
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    for severity in (1, 2, 3, 4):
        for name in ALEXNET:
            errors.update(logits, torch.tensor([1, 1, 1]), name, severity)
    values = errors.compute()
    assert len(values) == 15
    assert values["error/fog"] == pytest.approx(1 / 3)


def test_what_is_refused():
    errors, some = CorruptionErrors(), torch.tensor([0])
    with pytest.raises(UserError, match="corruption is spatter: give gaussian_noise, "):
        errors.update(some, some, "spatter", 1)
    with pytest.raises(UserError, match="severity is 0: give 1 to 5 with a corruption, and 0 without"):
        errors.update(some, some, "fog", 0)
