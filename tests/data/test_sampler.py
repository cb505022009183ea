"""Training order: a pure function of its arguments, complete, evenly cycled and shared out without overlap."""

from collections import Counter

import numpy as np
import pytest
import torch

from xdomain.data import ImageData
from xdomain.data.sampler import EpochBatchSampler, ResumableLoader, ShardSampler, derive_seed


def batches(epoch=0, **options):
    sampler = EpochBatchSampler(**{"size": 10, "length": 10, "batch_size": 2, "seed": 5, **options})
    sampler.set_epoch(epoch)
    return list(sampler)


def flat(lists):
    return [index for one in lists for index in one]


def test_derived_seeds_are_splitmix64():
    # first outputs of the reference generator seeded with 0 and 1234567, without their sign bit
    assert derive_seed(0) == 0xE220A8397B1DCDAF & (2**63 - 1)
    assert derive_seed(1234567) == 6457827717110365317
    assert len({derive_seed(a, b, c) for a in range(9) for b in range(9) for c in range(9)}) == 9**3


def test_order_is_a_pure_function_of_its_arguments():
    assert batches(epoch=3) == batches(epoch=3)
    used = EpochBatchSampler(10, 10, 2, seed=5)
    for epoch in (0, 7, 3):
        used.set_epoch(epoch)
        last = list(used)
    assert last == batches(epoch=3)


@pytest.mark.parametrize("change", [{"seed": 6}, {"stream": 1}, {"epoch": 1}])
def test_order_depends_on_seed_stream_and_epoch(change):
    big = {"size": 50, "length": 50}
    assert batches(**big) != batches(**big, **change)


def test_every_image_once_per_pass():
    for epoch in range(4):
        assert sorted(flat(batches(epoch))) == list(range(10))


def test_what_an_incomplete_batch_leaves_over_opens_the_next_epoch():
    epochs = [flat(batches(epoch, size=11, length=11, batch_size=3)) for epoch in range(11)]
    assert {len(e) for e in epochs} == {9}
    together = [index for e in epochs for index in e]
    for begin in range(0, 99, 11):
        assert sorted(together[begin : begin + 11]) == list(range(11))


def test_the_smaller_domain_is_cycled_evenly():
    seen = flat(batches(size=7, length=40, batch_size=4))
    assert len(seen) == 40
    counts = Counter(seen)
    assert set(counts) == set(range(7))
    assert max(counts.values()) - min(counts.values()) <= 1
    for begin in range(0, 35, 7):
        assert sorted(seen[begin : begin + 7]) == list(range(7))


def test_a_batch_larger_than_the_domain():
    (batch,) = batches(size=3, length=3, batch_size=8)
    assert Counter(batch).most_common()[-1][1] >= 2
    assert len(batch) == 8


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batch_of_one_process(world_size):
    ranks = [
        batches(epoch=2, size=24, length=24, batch_size=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    one = batches(epoch=2, size=24, length=24, batch_size=2 * world_size)
    assert len(ranks[0]) == len(one) == 12 // world_size
    for together, *parts in zip(one, *ranks, strict=True):
        assert sorted(flat(parts)) == sorted(together)
        assert len(set(flat(parts))) == 2 * world_size


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_start_skips_batches_without_changing_the_others(start):
    sampler = EpochBatchSampler(10, 10, 2, seed=5)
    sampler.set_epoch(1)
    sampler.start = start
    sampler.set_epoch(1)  # the epoch that is under way: goes on where it is
    assert list(sampler) == batches(epoch=1)[start:]
    sampler.set_epoch(2)
    assert list(sampler) == batches(epoch=2)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 12])
def test_shards_hold_every_image_once(world_size, size):
    samplers = [ShardSampler(size, 3, rank, world_size) for rank in range(world_size)]
    shards = [list(sampler) for sampler in samplers]
    assert sorted(flat(flat(shards))) == list(range(size))
    assert [len(shard) for shard in shards] == [len(sampler) for sampler in samplers]
    assert all(0 < len(batch) <= 3 for shard in shards for batch in shard)


def loader(num_workers=0):
    images = np.arange(10, dtype=np.uint8)[:, None, None, None]
    return ResumableLoader(ImageData(images), EpochBatchSampler(10, 10, 2, seed=5), num_workers)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_resumes_after_the_batch_of_its_state(num_workers):
    first = loader(num_workers)
    first.batch_sampler.set_epoch(3)
    iterator = iter(first)
    for _ in range(2):
        next(iterator)
    state = first.state_dict()
    assert state == {"epoch": 3, "batch": 2}  # workers have read ahead; the state has not

    second = loader(num_workers)
    second.load_state_dict(state)
    second.batch_sampler.set_epoch(3)
    rest = [batch.position.tolist() for batch in second]
    assert rest == batches(epoch=3)[2:]
    assert second.state_dict() == {"epoch": 3, "batch": 5}
    second.batch_sampler.set_epoch(4)
    assert [batch.position.tolist() for batch in second] == batches(epoch=4)


def test_loader_hands_out_the_images_at_their_positions():
    for batch in loader():
        assert batch.image[:, 0, 0, 0].tolist() == batch.position.tolist()


def test_loader_of_a_shard_has_a_state_that_changes_nothing():
    images = np.zeros((4, 1, 2, 2), dtype=np.uint8)
    one = ResumableLoader(ImageData(images), ShardSampler(4, 3))
    one.load_state_dict({"epoch": 1, "batch": 1})
    assert [len(batch.image) for batch in one] == [3, 1]


def test_loader_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(torch.get_rng_state(), before)
