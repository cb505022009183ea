"""Hit rates with known intervals, and scikit-learn's balanced accuracy."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from xdomain.metrics.attributes import AttributeHitRate, BalancedAccuracy, wilson_interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Brown, Cai and DasGupta 2001: z^2 / (n + z^2)
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_of_published_examples(hits, n, low, high):
    ends = wilson_interval(torch.tensor(hits), torch.tensor(n))
    assert [end.item() for end in ends] == pytest.approx([low, high], abs=5e-5)


@pytest.mark.parametrize(("hits", "n"), [(3, 7), (50, 60), (999, 1000)])
def test_ends_solve_the_equation_of_the_score_test(hits, n):
    for end in wilson_interval(torch.tensor(hits), torch.tensor(n)):
        p = end.item()
        assert abs(hits / n - p) / math.sqrt(p * (1 - p) / n) == pytest.approx(1.959964, abs=1e-3)


def values_of(metric):
    return {name: value.item() for name, value in metric.compute().items()}


def test_only_what_counts_is_counted():
    metric = AttributeHitRate(["glasses", "hat", "smile"])
    logits = torch.tensor([[2.0, -1.0, 9.0], [-0.1, -3.0, 9.0], [4.0, -0.2, 9.0], [-2.0, 0.7, 9.0]])
    wanted = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.uint8)
    counted = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=torch.uint8)
    metric.update(logits[:1], wanted[:1], counted[:1])
    metric.update(logits[1:], wanted[1:], counted[1:])
    low, high = wilson_interval(torch.tensor([2, 2]), torch.tensor([4, 3]))
    assert values_of(metric) == pytest.approx(
        {
            "hit_rate/glasses": 2 / 4,
            "hit_rate_low/glasses": low[0].item(),
            "hit_rate_high/glasses": high[0].item(),
            "n/glasses": 4,
            "hit_rate/hat": 2 / 3,
            "hit_rate_low/hat": low[1].item(),
            "hit_rate_high/hat": high[1].item(),
            "n/hat": 3,
        }
    )


def test_a_classifier_of_two_domains_may_have_one_logit_or_two():
    torch.manual_seed(0)
    two, wanted = torch.randn(50, 2), torch.randint(0, 2, (50,))
    expected = (two.argmax(1) == wanted).float().mean().item()
    difference = two[:, 1] - two[:, 0]
    for logits, labels in ((two, wanted), (difference, wanted), (difference[:, None], wanted[:, None])):
        metric = AttributeHitRate(["b"])
        metric.update(logits, labels)
        assert values_of(metric)["hit_rate/b"] == pytest.approx(expected)
        assert values_of(metric)["n/b"] == 50


def test_perfect_logits_hit_and_noise_misses_more_and_more():
    torch.manual_seed(0)
    wanted = torch.randint(0, 2, (500, 2))
    noise, rates = torch.randn(500, 2), []
    for scale in (0.0, 1.0, 3.0, 30.0):
        metric, trusted = AttributeHitRate(["x", "y"]), BalancedAccuracy(["x", "y"])
        metric.update(wanted * 2.0 - 1 + scale * noise, wanted)
        trusted.update(wanted * 2.0 - 1 + scale * noise, wanted)
        values = values_of(metric)
        assert values["hit_rate_low/x"] <= values["hit_rate/x"] <= values["hit_rate_high/x"]
        rates.append((values["hit_rate/x"], values_of(trusted)["balanced_accuracy/y"]))
    assert rates[0] == (1, 1)
    for series in zip(*rates, strict=True):
        assert list(series) == sorted(series, reverse=True)
        assert series[-1] < 0.6


def test_an_answer_of_nothing_is_no_hit():
    metric = AttributeHitRate(["x"])
    metric.update(torch.tensor([math.nan, math.nan, 0.0, 0.0]), torch.tensor([0, 1, 0, 1]))
    assert values_of(metric)["hit_rate/x"] == 0
    trusted = BalancedAccuracy(["x"])
    trusted.update(torch.tensor([math.nan, math.nan, 0.0, 0.0]), torch.tensor([0, 1, 0, 1]))
    assert values_of(trusted)["balanced_accuracy/x"] == 0


def test_balanced_accuracy_equals_scikit_learn():
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 3)) < [0.05, 0.5, 0.9]).astype(np.int64)
    logits = rng.normal(size=(300, 3)) + truth
    metric = BalancedAccuracy(["rare", "even", "common"])
    for part in (slice(0, 100), slice(100, 300)):
        metric.update(torch.from_numpy(logits[part]), torch.from_numpy(truth[part]))
    expected = {}
    for i, name in enumerate(("rare", "even", "common")):
        expected[f"balanced_accuracy/{name}"] = balanced_accuracy_score(truth[:, i], logits[:, i] > 0)
        expected[f"n/{name}"] = 300
    assert values_of(metric) == pytest.approx(expected)


def test_balanced_accuracy_of_one_class_only_is_not_a_number():
    metric = BalancedAccuracy(["x"])
    metric.update(torch.ones(4), torch.ones(4))
    assert math.isnan(values_of(metric)["balanced_accuracy/x"])
    assert values_of(metric)["n/x"] == 4


@pytest.mark.parametrize("kind", [AttributeHitRate, BalancedAccuracy])
def test_two_halves_make_the_whole(kind):
    torch.manual_seed(0)
    logits, truth = torch.randn(40, 2), torch.randint(0, 2, (40, 2))
    whole, one, two = kind(["x", "y"]), kind(["x", "y"]), kind(["x", "y"])
    whole.update(logits, truth)
    one.update(logits[:13], truth[:13])
    two.update(logits[13:], truth[13:])
    one.merge_state(two)
    assert one.compute() == whole.compute()


@pytest.mark.parametrize("kind", [AttributeHitRate, BalancedAccuracy])
def test_logits_of_other_attributes_are_refused(kind):
    with pytest.raises(ValueError, match=r"\(4, 2\) are not one for each of x, y, z"):
        kind(["x", "y", "z"]).update(torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"\(4, 3\) are not one for each of x"):
        kind(["x"]).update(torch.ones(4, 3), torch.ones(4))
