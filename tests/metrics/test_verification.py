"""Verification against scikit-learn's ROC, similarity against closed forms."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from xdomain.metrics import verification
from xdomain.metrics.verification import IdentificationRate, IdentitySimilarity, VerificationAUC


def faces(n, identities, noise):
    rng = np.random.default_rng(0)
    persons = rng.normal(size=(identities, 12))
    labels = rng.integers(0, identities, n)
    return (persons[labels] + noise * rng.normal(size=(n, 12))).astype(np.float32), labels * 7 - 3


def auc_by_scikit_learn(features, labels):
    pairs = np.array(list(itertools.combinations(range(len(labels)), 2)))
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    similarities = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1)
    return roc_auc_score(labels[pairs[:, 0]] == labels[pairs[:, 1]], similarities)


def measured(features, labels, **options):
    metric = VerificationAUC(**options)
    for x, y in zip(torch.from_numpy(features).split(33), torch.from_numpy(labels).split(33), strict=True):
        metric.update(x, y)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize(("n", "identities"), [(120, 9), (50, 2), (60, 40)])
def test_area_equals_scikit_learn(n, identities):
    features, labels = faces(n, identities, noise=1.5)
    same = sum(count * (count - 1) // 2 for count in np.unique(labels, return_counts=True)[1].tolist())
    values = measured(features, labels)
    assert 0.55 < values["auc"] < 0.95
    assert values == pytest.approx(
        {
            "auc": auc_by_scikit_learn(features, labels),
            "same": same,
            "different": n * (n - 1) // 2 - same,
            "n": n,
        },
        abs=1e-5,
    )


@pytest.mark.parametrize("identities", [3, 60])
def test_a_sample_of_pairs_comes_close_and_is_always_the_same(identities):
    features, labels = faces(400, identities, noise=1.5)
    values = measured(features, labels, max_pairs=6000)
    assert values["different"] == 6000
    assert values["same"] == (6000 if identities == 3 else measured(features, labels)["same"])
    assert values["auc"] == pytest.approx(auc_by_scikit_learn(features, labels), abs=0.015)
    assert measured(features, labels, max_pairs=6000) == values


@pytest.mark.parametrize("max_pairs", [10, 10_000])
def test_pairs_are_what_they_are_said_to_be(max_pairs, monkeypatch):
    features, labels = faces(90, 4, noise=1.0)
    features[:, 0], features[:, 1:] = labels, np.arange(90)[:, None]
    drawn = []
    monkeypatch.setattr(torch.nn.functional, "normalize", lambda x: x)
    monkeypatch.setattr(
        VerificationAUC, "_similarities", lambda self, x, i, j: drawn.append((x[i], x[j])) or torch.zeros(len(i))
    )
    measured(features, labels, max_pairs=max_pairs)
    (a, b), (c, d) = drawn
    assert torch.equal(a[:, 0], b[:, 0])
    assert (a[:, 1] != b[:, 1]).all(), "no image is paired with itself"
    assert (c[:, 0] != d[:, 0]).all()
    if max_pairs > 10:
        for x, y in drawn:
            pairs = set(zip(x[:, 1].tolist(), y[:, 1].tolist(), strict=True))
            assert len(pairs) == len(x), "every pair once in either order"


def test_perfect_features_and_meaningless_ones():
    assert measured(*faces(80, 10, noise=0.0))["auc"] == 1
    assert measured(np.ones((80, 5), np.float32), faces(80, 10, 0.0)[1])["auc"] == 0.5
    rng = np.random.default_rng(3)
    assert measured(rng.normal(size=(300, 12)).astype(np.float32), faces(300, 10, 0.0)[1])["auc"] == pytest.approx(
        0.5, abs=0.02
    )


def test_area_shrinks_with_the_noise():
    areas = [measured(*faces(150, 10, noise))["auc"] for noise in (0.0, 0.5, 1.0, 2.0, 8.0)]
    assert all(a >= b for a, b in itertools.pairwise(areas))
    assert areas[0] > areas[-1] + 0.3


def test_what_has_no_area_is_not_a_number():
    features, labels = faces(20, 4, noise=1.0)
    assert np.isnan(measured(features, np.zeros_like(labels))["auc"])
    assert np.isnan(measured(features, np.arange(20))["auc"])
    features[3, 0] = np.inf
    assert np.isnan(measured(features, labels)["auc"])


def test_two_halves_of_the_images_make_the_whole():
    features, labels = (torch.from_numpy(x) for x in faces(120, 9, noise=1.5))
    whole, one, two = VerificationAUC(), VerificationAUC(), VerificationAUC()
    whole.update(features, labels)
    one.update(features[:45], labels[:45])
    two.update(features[45:], labels[45:])
    one.merge_state(two)
    assert one.compute() == whole.compute()


def test_similarity_of_known_angles():
    angles = torch.tensor([0.0, 0.5, 1.0, 2.0])
    turned = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.1], [2.0]])
    straight = torch.tensor([[3.0, 0.0]]).expand(4, 2)
    metric = IdentitySimilarity()
    metric.update(turned[:3], straight[:3])
    metric.update(turned[3:], straight[3:], reference=turned[3:] * 2)
    values = {name: value.item() for name, value in metric.compute().items()}
    mean = np.cos([0.0, 0.5, 1.0, 2.0]).mean()
    assert values == pytest.approx({"source": mean, "n": 4, "reference": 1.0, "n_reference": 1})


def test_similarity_falls_with_the_noise_and_adds_up():
    torch.manual_seed(0)
    source, noise = torch.randn(200, 16), torch.randn(200, 16)
    values = []
    for scale in (0.0, 0.5, 1.0, 4.0):
        metric, other = IdentitySimilarity(), IdentitySimilarity()
        metric.update((source + scale * noise)[:80], source[:80])
        other.update((source + scale * noise)[80:], source[80:])
        metric.merge_state(other)
        assert set(metric.compute()) == {"source", "n"}
        assert metric.compute()["n"] == 200
        values.append(metric.compute()["source"].item())
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1)
    whole = IdentitySimilarity()
    whole.update(source + 4.0 * noise, source)
    assert whole.compute()["source"].item() == pytest.approx(values[-1])


def test_similarity_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"features \(2, 3\) and \(1, 3\) differ"):
        IdentitySimilarity().update(torch.ones(2, 3), torch.ones(1, 3))


def test_identification_equals_a_nearest_neighbour_of_scikit_learn(monkeypatch):
    """Sources come up several times, in batches and in pieces."""
    monkeypatch.setattr(verification, "ROWS", 7)
    rng = np.random.default_rng(0)
    people = rng.normal(size=(15, 6)).astype(np.float32)
    numbers = rng.integers(0, 15, 50)
    outputs = people[numbers] + rng.normal(size=(50, 6)).astype(np.float32)
    right = rng.integers(0, 2, (50, 2)).astype(bool)
    metric = IdentificationRate(["removed", "added"])
    for rows in np.array_split(np.arange(50), 4):
        parts = outputs[rows], people[numbers[rows]], 3 * numbers[rows] - 5, right[rows]
        metric.update(*map(torch.from_numpy, parts))
    known = np.unique(numbers)
    nearest = KNeighborsClassifier(1, metric="cosine").fit(people[known], known).predict(outputs)
    found = nearest == numbers
    assert 0.2 < found.mean() < 0.9
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == pytest.approx(
        {
            "identified": found.mean(),
            "removed_identified": (found & right[:, 0]).mean(),
            "added_identified": (found & right[:, 1]).mean(),
            "sources": len(known),
            "n": 50,
        }
    )


@pytest.mark.parametrize("features", [torch.ones(4, 3), torch.full((4, 3), torch.nan)])
def test_features_that_tell_nothing_identify_nobody(features):
    metric = IdentificationRate()
    metric.update(features, features, torch.arange(4), torch.zeros(4, 0, dtype=torch.bool))
    assert metric.compute()["identified"] == 0


def test_identification_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\) differ in shape"):
        IdentificationRate().update(torch.ones(4, 3), torch.ones(4, 2), torch.arange(4), torch.zeros(4, 0))
