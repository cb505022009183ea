"""Sizes, widths and resizing of pyramids that are learned from a single sample."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, ...]
"""Height and width in pixels; for a clip: frames, height and width."""
EPSILON = 1e-6  # guard against rounding: 188 (25 / 188) is 25, not 26


def singan_sizes(
    height: int, width: int, min_size: int = 25, max_size: int = 250, factor: float = 0.75, guard: bool = True
) -> list[Size]:
    """Sizes of the scales of SinGAN, coarsest first (Shaham et al. 2019, section 2, and their code).

    The number of scales follows from ``factor``, which is then adjusted so that the shorter side of the coarsest scale
    has ``min_size`` pixels and the longer side of the finest at most ``max_size``.

    Args:
        height: height of the image in pixels.
        width: width in pixels.
        min_size: shorter side of the coarsest scale.
        max_size: longer side of the finest scale; a smaller image keeps its size.
        factor: desired ratio between the sizes of neighbouring scales.
        guard: ignore rounding errors when rounding sides up. Otherwise, as in the authors' code, the coarsest scale of
            a 188x250 image has 26 instead of 25 rows.

    Raises:
        ValueError: for an image that is not larger than the coarsest scale.
    """
    shorter, longer = min(height, width), max(height, width)
    if not 0 < factor < 1:
        raise ValueError(f"the factor between scales is {factor}: give a number between 0 and 1")
    count = _ceil(math.log(min_size / shorter, factor), guard) + 1 if shorter > min_size else 0
    left_out = _ceil(math.log(min(max_size, longer) / longer, factor), guard)
    last = count - left_out
    finest = [_ceil(side * min(max_size / longer, 1), guard) for side in (height, width)]
    if last < 1 or min(finest) <= min_size:
        raise ValueError(
            f"an image of {height}x{width} pixels is too small for a pyramid from {min_size} to {max_size}: its "
            "shorter side must be larger than min_size when the longer one has max_size; make min_size smaller"
        )
    ratio = (min_size / min(finest)) ** (1 / last)
    return [tuple(_ceil(side * ratio ** (last - i), guard) for side in finest) for i in range(last + 1)]


def consingan_sizes(
    height: int, width: int, stages: int = 6, min_size: int = 25, max_size: int = 250, geometric: bool = False
) -> list[Size]:
    """Sizes of the stages of ConSinGAN, coarsest first: denser at low resolution (Hinz et al. 2021, section 3.3).

    Args:
        height: height of the image in pixels.
        width: width in pixels.
        stages: number of stages.
        min_size: shorter side of the coarsest stage.
        max_size: longer side of the finest stage; a smaller image keeps its size.
        geometric: use equal ratios instead, as for harmonisation.

    Raises:
        ValueError: for fewer than two stages, or an image that is not larger than the coarsest stage.
    """
    if stages < 2:
        raise ValueError(f"the number of stages is {stages}: give at least 2")
    finest = [_ceil(side * min(max_size / max(height, width), 1)) for side in (height, width)]
    if min(finest) <= min_size:
        raise ValueError(
            f"an image of {height}x{width} pixels is too small for stages from {min_size} to {max_size} pixels: its "
            "shorter side must be larger than min_size when the longer one has max_size; make min_size smaller"
        )
    last = stages - 1
    ratio = (min_size / min(finest)) ** (1 / last)

    def exponent(i: int) -> float:
        if geometric or last == 1 or i == last:
            return float(last - i)
        return (last - 1) / math.log(last) * math.log(last - i) + 1

    return [tuple(_ceil(side * ratio ** exponent(i)) for side in finest) for i in range(stages)]


def paired_sizes(
    shapes: Sequence[Size], min_size: int = 18, max_size: int = 220, factor: float = 0.75
) -> list[list[Size]]:
    """Sizes of equally many scales for each of several images, coarsest first, at their own aspect ratios.

    The sizes of a pyramid grow geometrically from ``min_size``, its shorter side, to ``max_size``, its longer side. The
    number of scales is the largest that :func:`singan_sizes` gives for any of the images. For square images of one size
    these are the sizes of Benaim et al. 2020, up to rounding.

    Args:
        shapes: heights and widths in pixels.
        min_size: shorter side of the coarsest scale.
        max_size: longer side of the finest scale; a smaller image keeps its size.
        factor: desired ratio between the sizes of neighbouring scales.

    Raises:
        ValueError: for an image that is not larger than the coarsest scale.
    """
    count = max(len(singan_sizes(h, w, min_size, max_size, factor)) for h, w in shapes)
    return [consingan_sizes(h, w, count, min_size, max_size, geometric=True) for h, w in shapes]


def vaegan_sizes(
    height: int, width: int, min_size: int = 32, max_size: int = 256, factor: float = 0.75, guard: bool = True
) -> list[Size]:
    """Sizes of the levels of the patch VAE-GAN, coarsest first, by the width (Gur et al. 2020, their code).

    Args:
        height: height of the frames in pixels.
        width: width in pixels.
        min_size: width of the coarsest level.
        max_size: width of the finest level; a narrower sample keeps its width.
        factor: desired ratio between the sizes of neighbouring levels.
        guard: see :func:`singan_sizes`.

    Raises:
        ValueError: for a sample that is not wider than the coarsest level.
    """
    finest = min(max_size, width)
    if not 0 < factor < 1:
        raise ValueError(f"the factor between levels is {factor}: give a number between 0 and 1")
    if finest <= min_size:
        raise ValueError(
            f"a sample of {height}x{width} pixels is too narrow for levels from {min_size} to {max_size} pixels: its "
            "width must be larger than min_size; make min_size smaller"
        )
    last = _ceil(math.log(min_size / finest, factor), guard) + 1
    ratio = (min_size / finest) ** (1 / last)
    widths = [_ceil(finest * ratio ** (last - i), guard) for i in range(last + 1)]
    slack = EPSILON if guard else 0.0
    return [(max(1, math.floor(w * height / width + slack)), w) for w in widths]


def vaegan_frames(level: int, last: int, rates: Sequence[int] = (4, 3, 2, 1)) -> tuple[int, int]:
    """Number of frames of a level of the patch VAE-GAN and the step between them (Gur et al. 2020, their code).

    Args:
        level: index of the level; 0 is the coarsest.
        last: index of the finest level.
        rates: steps between frames, coarse levels first; a clip has their least common multiple + 1 frames.
    """
    rate = rates[int(level / last * (len(rates) - 1))] if last else rates[-1]
    return math.lcm(*rates) // rate + 1, rate


def sizes_like(sizes: Sequence[Size], finest: Sequence[int]) -> list[Size]:
    """The sizes of a pyramid, scaled so that its finest scale has the given size, of any aspect ratio."""
    return [
        tuple(max(1, round(side * new / old)) for side, old, new in zip(size, sizes[-1], finest, strict=True))
        for size in sizes
    ]


def size_of_longest(height: int, width: int, longest: int) -> Size:
    """The size of an image resized to ``longest`` pixels at its longer side, keeping the aspect ratio."""
    return tuple(max(1, round(side * longest / max(height, width))) for side in (height, width))


def width_at(scale: int, base: int = 32, most: int = 128) -> int:
    """Channels of the networks of a scale: doubled every four scales (Shaham et al. 2019, supplement)."""
    return int(min(base * 2 ** (scale // 4), most))


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images float [N, C, H, W] in [-1, 1] to (height, width): bicubic, antialiased, clamped; in float32.

    Mixed precision gives bfloat16, for which torch lacks this resizing on CPUs.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images.float(), size=tuple(size), mode="bicubic", align_corners=False, antialias=True).clamp(
        -1, 1
    )


def resize_clip(clips: Tensor, size: Sequence[int]) -> Tensor:
    """Resize images [N, C, H, W] or clips [N, C, T, H, W] linearly, with aligned corners, as in the patch VAE-GAN."""
    if tuple(clips.shape[2:]) == tuple(size):
        return clips
    mode = "bilinear" if clips.ndim == 4 else "trilinear"
    return F.interpolate(clips, size=tuple(size), mode=mode, align_corners=True)


def rmse(x: Tensor, y: Tensor) -> Tensor:
    """Root mean squared difference; the noise of a scale is proportional to it."""
    return torch.sqrt((x - y).square().mean())


def random_walk(z: Tensor, frames: int, alpha: float, beta: float, first: float) -> Iterator[Tensor]:
    """Random walk of noise around ``z`` (Shaham et al. 2019, supplement, section 5).

    Args:
        z: start of the walk, to which it is pulled back.
        frames: number of frames, each of the shape of ``z``.
        alpha: how strongly the noise is pulled back, from 0 to 1.
        beta: smoothness: how much of the last step is part of the next one, from 0 to 1.
        first: share of noise in the first step.
    """
    before, now = z, torch.lerp(z, torch.randn_like(z), first)
    for _ in range(frames):
        step = beta * (now - before) + (1 - beta) * torch.randn_like(z)
        before, now = now, alpha * z + (1 - alpha) * (now + step)
        yield now


def soft_mask(mask: Tensor, radius: float, sigma: float) -> Tensor:
    """A mask dilated by a disk and blurred, so that the masked region blends into its surroundings.

    Args:
        mask: [N, 1, H, W]; pixels above 0.5 are inside. It must not be empty.
        radius: radius of the disk in pixels.
        sigma: standard deviation of the Gaussian in pixels.

    Returns:
        float [N, 1, H, W] in [0, 1], with maximum 1.
    """
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = y**2 + x**2 <= radius**2
    soft = []
    for inside in (mask[:, 0] > 0.5).cpu().numpy():
        blurred = gaussian_filter(binary_dilation(inside, disk).astype(np.float32), sigma, mode="nearest")
        lowest = 0.0 if blurred.min() == blurred.max() else blurred.min()
        soft.append((blurred - lowest) / (blurred.max() - lowest))
    return torch.from_numpy(np.stack(soft))[:, None].to(mask.device)


def _ceil(value: float, guard: bool = True) -> int:
    return math.ceil(value - EPSILON) if guard else math.ceil(value)
