"""The common corruptions of ImageNet-C and CIFAR-C (Hendrycks and Dietterich, ICLR 2019), for images of any kind.

Every random number is drawn from a generator that belongs to one image, corruption and severity. So an image is
corrupted in the same way alone, in any order and in any batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xdomain.data.corruptions import blur, digital, noise, weather
from xdomain.data.corruptions.frost import Frost, official_frost, own_frost
from xdomain.data.corruptions.pixels import Corruption
from xdomain.data.corruptions.table import (
    CORRUPTIONS,
    GROUPS,
    NAMES,
    SEVERITIES,
    TABLE,
    VALIDATION,
    Scale,
    parameters,
    scale_of,
)

__all__ = [
    "CORRUPTIONS",
    "GROUPS",
    "NAMES",
    "SEVERITIES",
    "TABLE",
    "VALIDATION",
    "Frost",
    "Scale",
    "corrupt",
    "generator",
    "official_frost",
    "own_frost",
    "parameters",
    "scale_of",
]

FUNCTIONS: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}
"""All except frost, which needs pictures."""


def corrupt(
    images: Tensor,
    corruption: str,
    severity: int,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    frost: Frost | None = None,
) -> Tensor:
    """Corrupt images.

    Their longer side decides which table of parameters is used, see :func:`scale_of`. Grey images are corrupted as
    three equal channels, of which the mean is taken.

    Args:
        images: ``uint8`` [N, C, H, W], RGB or grey; on the CPU.
        corruption: one of the 15 :data:`CORRUPTIONS` or the 4 for :data:`VALIDATION`.
        severity: 1 to 5.
        seed: of the random numbers, from 0.
        indices: number of each image in its data set, from 0; by default 0 to N - 1.
        frost: pictures for ``frost``; by default generated ones.

    Returns:
        ``uint8`` of the same shape.

    Raises:
        SettingError: for an unknown corruption or severity.
        ValueError: for images of another type or shape, or another number of indices.

    Example:
        >>> grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
        >>> corrupt(grey, "brightness", 5)[0, 0, 0, 0].item()
        204
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}, not uint8 [N, 3, H, W] or [N, 1, H, W]")
    numbers = range(len(images)) if indices is None else indices
    if len(numbers) != len(images):
        raise ValueError(f"{len(numbers)} indices for {len(images)} images")
    values = parameters(corruption, severity, scale_of(*images.shape[2:]))
    function = (frost or own_frost()) if corruption == "frost" else FUNCTIONS[corruption]
    pictures = np.ascontiguousarray(images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
    made = np.empty_like(pictures)
    for i, number in enumerate(numbers):
        made[i] = function(pictures[i], generator(seed, corruption, severity, number), values)
    corrupted = torch.from_numpy(made).permute(0, 3, 1, 2)
    if images.shape[1] == 1:
        return corrupted.float().mean(1, keepdim=True).round().to(torch.uint8)
    return corrupted.contiguous()


def generator(seed: int, corruption: str, severity: int, index: int) -> np.random.Generator:
    """The random numbers of one image.

    Philox has 2^256 states for each key, which is seed and index; each corruption and severity begins at another one,
    too far from the next for any image to reach.
    """
    counter = [0, 0, NAMES.index(corruption), severity]
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=counter))
