"""Training order as a pure function of seed, epoch and batch index, and a loader that can resume at any batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from xdomain.batch import Sample


def derive_seed(*parts: int) -> int:
    """Mix integers into one 63-bit seed (splitmix64), so that neighbouring inputs give unrelated streams."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF


class EpochBatchSampler(Sampler[list[int]]):
    """Shuffled batches for one role of an unpaired batch.

    The images of a domain form an endless stream: one permutation after the other, each drawn from ``(seed, stream,
    number of the permutation)``. An epoch is ``length`` positions of that stream, distributed over the ranks. A domain
    that is smaller than the epoch is therefore cycled through evenly, and batch ``k`` of epoch ``e`` never depends on
    what was drawn before it.

    Args:
        size: number of images in the domain.
        length: positions in one epoch (the size of the largest domain).
        batch_size: images per batch and rank.
        seed: seed of the data module.
        stream: index of the role, so that two domains are shuffled independently.
        rank: this process.
        world_size: number of processes.
        repeat: every epoch is the first one again.
    """

    def __init__(
        self,
        size: int,
        length: int,
        batch_size: int,
        seed: int,
        stream: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeat: bool = False,
    ) -> None:
        self.size, self.batch_size, self.seed, self.stream = size, batch_size, seed, stream
        self.rank, self.world_size = rank, world_size
        self.batches = max(1, length // (batch_size * world_size))
        self.repeat = repeat
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "EpochBatchSampler":
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Start epoch ``epoch`` at its first batch; does nothing if that epoch is already in progress."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def _permutation(self, number: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.stream, number))
        return torch.randperm(self.size, generator=generator)

    def first_batches(self) -> torch.Tensor:
        """Index of the batch in which every image is first seen, counted over all ranks: ``int64`` [size]."""
        place = torch.empty(self.size, dtype=torch.int64)
        place[self._permutation(0)] = torch.arange(self.size)
        return place // (self.batch_size * self.world_size) * self.world_size + place % self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        per_batch = self.batch_size * self.world_size
        first = 0 if self.repeat else self.epoch * self.batches * per_batch
        permutations: dict[int, torch.Tensor] = {}
        for batch in range(self.start, self.batches):
            begin = first + batch * per_batch + self.rank
            positions = range(begin, begin + per_batch, self.world_size)
            wanted = {position // self.size for position in positions}
            permutations = {n: permutations[n] if n in permutations else self._permutation(n) for n in wanted}
            yield [int(permutations[position // self.size][position % self.size]) for position in positions]

    def __len__(self) -> int:
        return self.batches


class ShardSampler(Sampler[list[int]]):
    """Batches of every image once, in order, distributed over the ranks without padding or duplicates."""

    def __init__(self, size: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, size, world_size)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for begin in range(0, len(self.indices), self.batch_size):
            yield list(self.indices[begin : begin + self.batch_size])

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)


def _identity(batch: Any) -> Any:
    return batch


class ResumableLoader(DataLoader[Sample]):
    """Loader that remembers its position, so that a run resumes in the middle of an epoch at the next batch.

    The data set must return a whole batch for a list of indices (``__getitems__``). The loader does not use the global
    random state.
    """

    def __init__(self, dataset: Any, batch_sampler: Sampler[list[int]], num_workers: int = 0, **options: Any) -> None:
        super().__init__(
            dataset,
            batch_sampler=batch_sampler,
            num_workers=num_workers,
            collate_fn=_identity,
            generator=torch.Generator(),
            persistent_workers=num_workers > 0,
            **options,
        )
        self._yielded = 0

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        # A generator: workers start with the first batch, after the trainer has announced the epoch.
        self._yielded = getattr(self.batch_sampler, "start", 0)
        for batch in super().__iter__():
            self._yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches already loaded in it."""
        return {"epoch": getattr(self.batch_sampler, "epoch", 0), "batch": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batch at which the state was taken."""
        if isinstance(self.batch_sampler, EpochBatchSampler):
            self.batch_sampler.epoch, self.batch_sampler.start = state["epoch"], state["batch"]
