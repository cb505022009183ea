"""Choice of the images for an evaluation: pairs, shares of processes, batches."""

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from xdomain.batch import to_float
from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.errors import UserError
from xdomain.methods import Method


def draw_pairs(sources: int, guides: int, count: int, seed: int) -> np.ndarray:
    """Random pairs of positions, int64 [count, 2], of sources and of guides.

    Both are reshuffled whenever they are used up, so that no image is drawn twice before all others are drawn once.
    """
    rng = np.random.default_rng(seed)
    columns = [[rng.permutation(n) for _ in range(-(-count // n))] for n in (sources, guides)]
    return np.stack([np.concatenate(column)[:count] for column in columns], 1)


def spread(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` evenly spaced positions out of ``count``, int64."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)


def limited(trainer: pl.Trainer, count: int, batch_size: int) -> int:
    """Number of images or pairs left of ``count`` by ``limit_val_batches`` or, in a test, ``limit_test_batches``.

    An integer is a number of batches per process, as everywhere in Lightning; a float is a share of the images.
    """
    limit = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    if isinstance(limit, float):
        return min(count, max(1, int(count * limit)))
    return min(count, limit * batch_size * trainer.world_size)


def share(trainer: pl.Trainer, count: int) -> np.ndarray:
    """This process's share of ``count`` positions; empty if the other processes have them all."""
    return np.arange(count)[trainer.global_rank :: trainer.world_size]


def pieces(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Positions in batches of at most ``size``."""
    return (rows[begin : begin + size] for begin in range(0, len(rows), size))


def read(data: ImageData, rows: np.ndarray, module: Method) -> Tensor:
    """Images on the device of the module, float [N, C, H, W] in [-1, 1]."""
    return to_float(data.__getitems__(rows.tolist()).image.to(module.device))


def has_training_part(data: BaseDataModule, left_out: str) -> bool:
    """Whether every domain has training images; warns about what is left out if not."""
    split: Split = "train"
    try:
        return all(len(data.data(role, split)) > 0 for role in data.roles)
    except UserError as error:
        rank_zero_warn(f"{left_out} needs training images and is left out: {error}")
        return False


def part_of(trainer: pl.Trainer) -> Split:
    """The part of the data that is being evaluated."""
    return "test" if trainer.testing else "val"


def thorough(trainer: pl.Trainer) -> bool:
    """Whether everything is measured: in a test, and by the command ``validate``, which settings are chosen by."""
    return trainer.testing or trainer.state.fn == TrainerFn.VALIDATING
