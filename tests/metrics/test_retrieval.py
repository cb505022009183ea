"""Ranks among distractors against a brute-force sort, and at their limits."""

import itertools

import numpy as np
import pytest
import torch

from xdomain.metrics.retrieval import RetrievalRanks


def ranks_by_sorting(gallery, queries, targets):
    """Position of the match in the sorted gallery of every query, one query at a time."""
    ranks = []
    for query, target in zip(queries, targets, strict=True):
        everyone = np.concatenate([target[None], gallery])
        cosines = everyone @ query / np.linalg.norm(everyone, axis=1) / np.linalg.norm(query)
        ranks.append(1 + int(np.flatnonzero(np.argsort(-cosines) == 0)[0]))
    return np.array(ranks)


def measured(gallery, queries, targets, chunk=2048):
    metric = RetrievalRanks(chunk)
    for part in torch.as_tensor(gallery).split(70):
        metric.update_gallery(part)
    metric.update_queries(torch.as_tensor(queries), torch.as_tensor(targets))
    return {name: value.item() for name, value in metric.compute().items()}


def faces(distractors, queries, noise, dim=16):
    """Features of strangers, and of two photos per person that differ by noise."""
    rng = np.random.default_rng(0)
    persons = rng.normal(size=(queries, dim))
    photos = [persons + noise * rng.normal(size=persons.shape) for _ in range(2)]
    return rng.normal(size=(distractors, dim)), *photos


@pytest.mark.parametrize("chunk", [7, 2048])
def test_ranks_equal_a_full_sort(chunk):
    features = faces(200, 31, noise=0.8)
    ranks = ranks_by_sorting(*features)
    assert 1 < np.median(ranks) < 50, "the case must be neither trivial nor hopeless"
    assert measured(*features, chunk) == pytest.approx(
        {
            "median_rank": np.median(ranks),
            "mean_rank": ranks.mean(),
            "rank_1": (ranks == 1).mean(),
            "rank_5": (ranks <= 5).mean(),
            "gallery": 201,
            "n": 31,
        }
    )


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    features = faces(200, 30, noise=0.8)
    assert measured(*features)["median_rank"] == np.median(ranks_by_sorting(*features))


def test_ideal_features_find_everyone_first():
    values = measured(*faces(300, 40, noise=0.0))
    assert values == {"median_rank": 1, "mean_rank": 1, "rank_1": 1, "rank_5": 1, "gallery": 301, "n": 40}


def test_random_features_rank_in_the_middle():
    rng = np.random.default_rng(1)
    values = measured(rng.normal(size=(999, 16)), *rng.normal(size=(2, 400, 16)))
    assert values["median_rank"] == pytest.approx(500, rel=0.1)
    assert values["mean_rank"] == pytest.approx(500, rel=0.1)
    assert values["rank_1"] < 0.02


def test_ranks_grow_with_the_noise():
    values = [measured(*faces(300, 60, noise)) for noise in (0.0, 0.3, 0.6, 1.2, 5.0)]
    for name, sign in (("mean_rank", 1), ("median_rank", 1), ("rank_5", -1)):
        series = [sign * value[name] for value in values]
        assert all(a <= b for a, b in itertools.pairwise(series)), name
        assert series[0] < series[-1]


def test_matches_of_others_are_no_distractors():
    near = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    values = measured(np.array([[0.0, 1.0]]), near, np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]]))
    assert values["mean_rank"] == 1
    assert values["gallery"] == 2


def test_length_of_features_does_not_matter():
    gallery, queries, targets = faces(200, 31, noise=0.8)
    scale = np.random.default_rng(2).uniform(0.1, 10, (200, 1))
    assert measured(gallery * scale, queries * 3, targets * 0.2) == measured(gallery, queries, targets)


def test_equal_distances_count_half():
    constant = np.ones((100, 8))
    values = measured(constant, constant[:4], constant[:4])
    assert values["mean_rank"] == 51
    assert values["rank_1"] == 0
    rng = np.random.default_rng(0)
    match = rng.normal(size=(1, 128)).astype(np.float32)
    values = measured(match, rng.normal(size=(1, 128)).astype(np.float32), match)
    assert (values["mean_rank"], values["rank_1"], values["rank_5"]) == (1.5, 0, 1)


@pytest.mark.parametrize("which", [1, 2])
def test_a_feature_that_is_no_number_comes_last(which):
    features = list(faces(50, 3, noise=0.0))
    features[which][1] = np.nan
    assert measured(*features)["mean_rank"] == pytest.approx((1 + 51 + 1) / 3)


def test_two_halves_make_the_whole():
    gallery, queries, targets = (torch.from_numpy(x) for x in faces(200, 31, noise=0.8))
    whole, halves = RetrievalRanks(), [RetrievalRanks(), RetrievalRanks()]
    whole.update_gallery(gallery)
    whole.update_queries(queries, targets)
    for half, some, few in ((halves[0], slice(0, 120), slice(0, 9)), (halves[1], slice(120, 200), slice(9, 31))):
        half.update_gallery(gallery[some])
        half.update_queries(queries[few], targets[few])
    halves[0].merge_state(halves[1])
    assert halves[0].compute() == whole.compute()


def test_ranks_of_a_cluster_are_gathered():
    gallery, queries, targets = (torch.from_numpy(x) for x in faces(200, 31, noise=0.8))
    twice, process = RetrievalRanks(), RetrievalRanks()
    for metric in (twice, twice, process):
        for part in gallery.split(70):
            metric.update_gallery(part)
        metric.update_queries(queries, targets)
    process.distributed_available_fn = lambda: True
    process.dist_sync_fn = lambda state, group=None: [state, state]  # what two equal processes would exchange
    assert process.compute() == twice.compute()
    assert process.compute()["gallery"] == 401
    assert process.compute()["n"] == 62


def test_a_large_gallery_is_compared_in_little_memory(monkeypatch):
    sizes = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: sizes.append((out := product(a, b)).nbytes) or out)
    rng = np.random.default_rng(0)
    metric = RetrievalRanks(chunk=256)
    metric.update_gallery(torch.from_numpy(rng.normal(size=(20_000, 8))))
    metric.update_queries(*torch.from_numpy(rng.normal(size=(2, 300, 8))))
    metric.compute()
    assert max(sizes) == 256 * 256 * 8
    assert sum(sizes) == 20_000 * 300 * 8


def test_what_is_missing_is_said():
    metric = RetrievalRanks()
    with pytest.raises(ValueError, match="differ in shape"):
        metric.update_queries(torch.ones(2, 3), torch.ones(1, 3))
    metric.update_queries(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="call update_gallery first"):
        metric.compute()
