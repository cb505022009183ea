"""Features of training images, computed once."""

import numpy as np
import torch

from xdomain.data import ImageData
from xdomain.data.sampler import EpochBatchSampler
from xdomain.features.cache import FeatureCache

IMAGES = ImageData(np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), dtype=np.uint8))


def cache(calls, groups=(0, 1, 0, 2, 1, 2, 0, 1, 2, 0)):
    """Means of the channels as features; every call notes how many images it got, and of which type."""

    def features(images):
        calls.append((len(images), images.dtype, torch.is_autocast_enabled("cpu")))
        return images.mean((2, 3))

    return FeatureCache(IMAGES, torch.tensor(groups), features)


def test_only_the_groups_of_what_is_asked_for_are_computed_and_once():
    calls = []
    some = cache(calls)
    expected = torch.from_numpy(IMAGES.images).float().div(127.5).sub(1).mean((2, 3))
    for positions in ([2, 0], [6, 2, 2], [1, 9]):
        torch.testing.assert_close(some.of(torch.tensor(positions)), expected[positions])
    assert [count for count, *_ in calls] == [4, 3]
    torch.testing.assert_close(some.all(torch.device("cpu")), expected)
    assert [count for count, *_ in calls] == [4, 3, 3]


def test_features_are_computed_in_float32_without_gradients():
    calls = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not cache(calls).of(torch.tensor([3])).requires_grad
    assert calls == [(3, torch.float32, False)]


def test_groups_are_the_batches_of_the_first_pass():
    for ranks in (1, 2):
        samplers = [EpochBatchSampler(24, 24, 3, seed=1, stream=1, rank=r, world_size=ranks) for r in range(ranks)]
        first = samplers[0].first_batches()
        seen = []
        for rank, sampler in enumerate(samplers):
            for number, batch in enumerate(sampler):
                assert first[batch].tolist() == [number * ranks + rank] * 3
                seen += batch
        assert sorted(seen) == list(range(24))
