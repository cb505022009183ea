"""Drawing samples with an exported program, without torch, from the random numbers that torch draws."""

from collections.abc import Iterator, Sequence

import numpy as np

from xdomain.errors import UserError
from xdomain.inference.program import SAMPLE, Program

BLOCK = 16
"""Number of values that torch draws together."""


class Normal:
    """Standard normal numbers: those of ``torch.randn`` on a CPU after ``torch.manual_seed``, but for rounding.

    Both take the Mersenne Twister of Matsumoto and Nishimura (1998), and the transform of Box and Muller (1958) from
    eight pairs of uniform numbers to sixteen normal ones. Fewer than sixteen torch draws in another way.

    Args:
        seed: of which torch takes the lowest 32 bits.
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)

    def __call__(self, *shape: int) -> np.ndarray:
        """The next numbers, float32 of a shape with at least 16 elements."""
        count = int(np.prod(shape))
        uniform = self._uniform(count)
        whole = count - count % BLOCK
        values = np.empty(count, np.float32)
        values[:whole] = _box_muller(uniform[:whole])
        if whole < count:  # the last sixteen are drawn again
            values[-BLOCK:] = _box_muller(self._uniform(BLOCK))
        return values.reshape(shape)

    def _uniform(self, count: int) -> np.ndarray:
        """Numbers in [0, 1), of 24 bits each."""
        bits = self._twister.randint(0, 2**32, count, dtype=np.uint32) & np.uint32(2**24 - 1)
        values: np.ndarray = bits.astype(np.float32) * np.float32(2**-24)
        return values


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    pairs = uniform.reshape(-1, 2, BLOCK // 2)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - pairs[:, 0]))
    angle = np.float32(2 * np.pi) * pairs[:, 1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)


def check_samples(program: Program, path: str) -> None:
    """Raise a UserError for a program that translates images."""
    if program.facts["task"] != SAMPLE:
        raise UserError(f"{path} translates images and makes no random samples: use xdomain translate.")


def drawn(program: Program, count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Samples, float [C, H, W] in [-1, 1]; those of ``xdomain sample`` on a CPU with this seed and batch size."""
    normal, shapes = Normal(seed), program.facts["shapes"]
    for size in _batches(count, batch_size, program.facts["at_once"] or batch_size):
        noises = [normal(size, *shape) for shape in shapes]
        yield from program(**dict(zip(program.facts["inputs"], noises, strict=True)))


def _batches(count: int, batch_size: int, at_once: int) -> Sequence[int]:
    """How many samples are drawn at a time: batches, of which a method may draw only some at once."""
    batches = [min(batch_size, count - done) for done in range(0, count, batch_size)]
    return [min(at_once, batch - done) for batch in batches for done in range(0, batch, at_once)]
