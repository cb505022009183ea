"""AugMix on whole batches, on the device, and torchvision's transforms for one image after the other.

Both use the global random state of the CPU, which is a function of the seed and the step.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from xdomain.batch import to_float

Matrix = Sequence[Sequence[Tensor]]
"""From output to input, in pixels: ((a, b, c), (d, e, f)) gives x' = a x + b y + c and y' = d x + e y + f."""


class EachImage(nn.Module):
    """Applies transforms to every image of a batch by itself, so that each has its own random parameters.

    Args:
        transforms: torchvision's, of single images [C, H, W] in [-1, 1], in order. What they fill in is 0, medium grey,
            unless they are told otherwise (``fill: -1`` for black).
    """

    def __init__(self, transforms: list[nn.Module]) -> None:
        super().__init__()
        self.transforms = nn.Sequential(*transforms)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] to the same shape and range."""
        return torch.stack([self.transforms(image) for image in images])


class AugMix(nn.Module):
    """A random view of every image: a mixture of three chains of simple operations, mixed with the image.

    Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty", ICLR 2020, with
    the settings of its code: chains of one to three operations of severity 3, weights by Dirichlet(1, 1, 1), share of
    the mixture by Beta(1, 1). The operations are autocontrast, equalize, posterize, rotate, solarize, shear and
    translate, those of Pillow to one level of a byte. None of the corruptions for testing is among them.
    """

    width, depth, severity = 3, 3, 3.0

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] to the same shape and range."""
        n, column = len(images), (len(images), 1, 1, 1)
        weights = torch.distributions.Dirichlet(torch.ones(self.width)).sample((n,)).to(images.device)
        share = torch.rand(column).to(images.device)
        start = images.add(1).mul(127.5).round().clamp(0, 255)
        mixture = torch.zeros_like(images)
        for chain in range(self.width):
            view, length = start, torch.randint(1, self.depth + 1, (n,))
            for step in range(self.depth):
                view = self._operated(view, length > step)
            mixture += weights[:, chain].view(column) * to_float(view)
        return torch.lerp(images, mixture, share)

    def _operated(self, view: Tensor, go_on: Tensor) -> Tensor:
        """The images [N, C, H, W] of bytes after one random operation each, where ``go_on`` [N]."""
        n = len(view)
        chosen = torch.where(go_on, torch.randint(len(OPERATIONS), (n,)), -1)
        level = torch.rand(n) * (self.severity - 0.1) + 0.1
        sign = torch.randint(2, (n,)) * 2.0 - 1.0
        result = view.clone()
        for number, operation in enumerate(OPERATIONS.values()):
            if len(rows := (chosen == number).nonzero().view(-1)):
                there = rows.to(view.device)
                strength = (level[rows] / 10).to(view.device), sign[rows].to(view.device)
                result[there] = operation(view[there], *strength)
        return result


def _autocontrast(x: Tensor, *_: Tensor) -> Tensor:
    changed: Tensor = tv.autocontrast(x.byte())
    return changed.to(x.dtype)


def _equalize(x: Tensor, *_: Tensor) -> Tensor:
    changed: Tensor = tv.equalize(x.byte())
    return changed.to(x.dtype)


def _posterize(x: Tensor, level: Tensor, _: Tensor) -> Tensor:
    step = _column(2.0 ** (4 + (level * 4).floor()))
    return (x / step).floor() * step


def _solarize(x: Tensor, level: Tensor, _: Tensor) -> Tensor:
    return torch.where(x < _column(256 - (level * 256).floor()), x, 255 - x)


def _rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    angle = -sign * (level * 30).floor() * (math.pi / 180)
    cos, sin, (height, width) = angle.cos(), angle.sin(), x.shape[2:]
    across, down = width / 2, height / 2
    return _affine(x, ((cos, sin, across - cos * across - sin * down), (-sin, cos, down + sin * across - cos * down)))


def _shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _affine(x, ((one, sign * level * 0.3, zero), (zero, one, zero)))


def _shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _affine(x, ((one, zero, zero), (sign * level * 0.3, one, zero)))


def _translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _affine(x, ((one, zero, sign * (level * (x.shape[3] / 3)).floor()), (zero, one, zero)))


def _translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _affine(x, ((one, zero, zero), (zero, one, sign * (level * (x.shape[2] / 3)).floor())))


OPERATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "rotate": _rotate,
    "solarize": _solarize,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""The operations, on bytes [N, C, H, W] as floats, with levels [N] in [0, 1] and signs [N]; borders become black."""


def _affine(x: Tensor, matrix: Matrix) -> Tensor:
    """Bilinear as in Pillow: black where the position is outside, the nearest pixel on the border, rounded down."""
    (height, width), ((a, b, c), (d, e, f)) = x.shape[2:], matrix
    down = torch.arange(height, device=x.device).view(1, -1, 1) + 0.5
    across = torch.arange(width, device=x.device).view(1, 1, -1) + 0.5
    at_x, at_y = (
        p.view(-1, 1, 1) * across + q.view(-1, 1, 1) * down + r.view(-1, 1, 1) for p, q, r in ((a, b, c), (d, e, f))
    )
    grid = torch.stack([2 * at_x / width - 1, 2 * at_y / height - 1], 3).to(x.dtype)
    inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
    moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return (moved + 1e-3).floor() * inside[:, None]  # a whole pixel away must stay whole


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
