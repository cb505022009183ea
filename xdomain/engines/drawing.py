"""Tools of all engines: random values that depend only on seed and index, and helpers for pixels.

Every random value is a hash of (seed, index, position in the stream), never a draw from a generator with a state. So an
image does not depend on the batch it is drawn in, and the parts of a data set are disjoint seeds or disjoint ranges of
indices.

Two rules keep pictures bit-identical for every batch size. Transcendental functions are only applied to the per-image
parameters, in float64 before rounding to float32, because their vectorised and scalar versions may differ in the last
bit. Per-pixel work is elementwise or per-sample (`grid_sample`, pooling), never a matrix product or a convolution,
whose algorithm depends on the batch size.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class Draws:
    """Random values for a batch of images; the k-th call returns the same values for an image in any batch."""

    def __init__(self, indices: Tensor, seed: int) -> None:
        stream = splitmix64(torch.tensor(seed, dtype=torch.int64, device=indices.device))
        # Hashed once more than the indices: else image i of seed s would be image s of seed i.
        self.state = splitmix64(splitmix64(stream) + splitmix64(indices))
        self.calls = 0

    def bits(self, *shape: int) -> Tensor:
        """Uniform int64 [n, *shape]."""
        self.calls += 1
        position = torch.arange(torch.Size(shape).numel(), device=self.state.device).view(1, *shape)
        call = splitmix64(self.state + self.calls)
        return splitmix64(call.view(-1, *[1] * len(shape)) + position)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform float64 [n, *shape] in [low, high)."""
        return low + (high - low) * logical_shift(self.bits(*shape), 11).double() * 2.0**-53

    def integers(self, stop: int, *shape: int) -> Tensor:
        """Uniform int64 [n, *shape] in 0..stop-1."""
        return logical_shift(self.bits(*shape), 32) % stop

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Float64 [n, *shape], 1 with the given probability, else 0."""
        return (self.uniform(0.0, 1.0, *shape) < probability).double()

    def noise(self, *shape: int) -> Tensor:
        """Nearly normal float32 [n, *shape], mean 0, variance 1: four 16-bit parts of one hash, added."""
        bits = self.bits(*shape)
        total = sum((logical_shift(bits, shift) & 0xFFFF for shift in (0, 16, 32, 48)), torch.zeros_like(bits))
        return (total - 2 * 0xFFFF).float() * (math.sqrt(3) / 65536)


def logical_shift(x: Tensor, shift: int) -> Tensor:
    """Shifts int64 to the right as if it were unsigned."""
    shifted: Tensor = x >> shift  # copies the sign bit, which the mask removes
    return shifted & ((1 << (64 - shift)) - 1) if shift else x


def splitmix64(x: Tensor) -> Tensor:
    """One step of the generator of Steele, Lea and Flood (2014), int64 -> int64; products wrap around."""
    x = x - 0x61C8864680B583EB  # + 0x9E3779B97F4A7C15 as a signed number, like the factors below
    x = (x ^ logical_shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ logical_shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ logical_shift(x, 31)


def pixels(parameter: Tensor) -> Tensor:
    """Per-image parameters [n] or [n, c] as float32 [n, c or 1, 1, 1], ready to meet pixels."""
    return parameter.float().view(len(parameter), -1, 1, 1)


def plane(draw: Draws, size: int, angle: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of all pixels, float32 [n, 1, size, size], in a frame that is turned and shifted at random.

    The picture spans [-1, 1] in both directions; `angle` (radians) and `shift` are the largest absolute values.
    """
    axis = (2 * torch.arange(size, dtype=torch.float32, device=draw.state.device) + 1) / size - 1
    turn = draw.uniform(-angle, angle)
    cos, sin = pixels(turn.cos()), pixels(turn.sin())
    x = axis.view(1, 1, 1, -1) - pixels(draw.uniform(-shift, shift))
    y = axis.view(1, 1, -1, 1) - pixels(draw.uniform(-shift, shift))
    return x * cos + y * sin, y * cos - x * sin


def blur(picture: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each picture [n, c, s, s] with its own sigma [n] in pixels."""
    size = picture.shape[-1]
    radius = -(-3 * size // 32)  # 2.5 times the largest sigma
    taps = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    for dim in (2, 3):
        padded = F.pad(picture, (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0), mode="replicate")
        picture = torch.zeros_like(picture)
        for k in range(2 * radius + 1):
            picture = picture + padded.narrow(dim, k, size) * pixels(weights[:, k])
    return picture


def blend(below: Tensor, above: Tensor, coverage: Tensor | float) -> Tensor:
    """Blend `above` over `below` by its coverage in [0, 1]."""
    return below + (above - below) * coverage


def mix(a: tuple[float, float, float], b: tuple[float, float, float], share: Tensor) -> Tensor:
    """Colours between a (share 0) and b (share 1): [n, 3, ...] from shares [n, 1, ...]."""
    low, high = (torch.tensor(colour, device=share.device).view(1, 3, 1, 1) for colour in (a, b))
    return blend(low, high, share)


def stripes(phase: Tensor, rate: Tensor | float, width: float) -> Tensor:
    """Share of every pixel within stripes that begin at each integer phase and are `width` wide.

    `rate` is the change of the phase over one pixel; the box filter is exact, so fine stripes turn grey, not moiré.
    """

    def covered(end: Tensor) -> Tensor:
        whole = end.floor()
        return whole * width + (end - whole).clamp(max=width)

    return (covered(phase + rate / 2) - covered(phase - rate / 2)) / rate


def soft_noise(draw: Draws, knots: int, size: int) -> Tensor:
    """Soft noise in [-1, 1] with the given number of knots along a side, float32 [n, 1, size, size]."""
    return F.interpolate(draw.uniform(-1.0, 1.0, 1, knots, knots).float(), size=(size, size), mode="bilinear")
