"""Augmentations of what a discriminator sees, each image's with a probability that can change."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from xdomain.errors import refuse

Transform = Literal[
    "flip", "turn", "shift", "scale", "rotation", "stretch", "brightness", "contrast", "luma", "hue", "saturation"
]

SHIFT, SCALE, BRIGHTNESS, CONTRAST, SATURATION = 0.125, 0.2, 0.2, 0.5, 1.0
"""Standard deviations, of log2 for factors; the largest whole shift is also an eighth of the size."""


class AdaptiveAugment(nn.Module):
    """Transforms images at random so that a discriminator with few of them can't learn them by heart.

    Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020, appendix B, without the
    filters, noise and cutout that their final setting leaves out. Each transform is applied to an image with the
    probability :attr:`p`, alone and independently of the others, in this order: ``flip`` (mirrored), ``turn`` (by a
    multiple of 90 degrees), ``shift`` (by whole pixels, and by a fraction N(0, 0.125) of the size), ``scale``
    (2^N(0, 0.2)), ``rotation`` (any angle, before and after the next), ``stretch`` (the sides by 2^N(0, 0.2) against
    each other), ``brightness`` (+ N(0, 0.2)), ``contrast`` (times 2^N(0, 0.5)), ``luma`` (light and dark swapped),
    ``hue`` (turned by any angle) and ``saturation`` (times 2^N(0, 1)). All of geometry is one map, sampled bilinearly
    with reflected borders where the paper has a wavelet filter; all of colour is another.

    Gradients pass to the images, twice too, as penalties need it. An image that no transform reaches stays bit-equal.

    Args:
        transforms: names of those to use; None for all. Leave out what the data must keep: with few images a generator
            learns turned faces from ``turn`` and other colours from ``hue``.
    """

    p: Tensor

    def __init__(self, transforms: Sequence[Transform] | None = None) -> None:
        super().__init__()
        known = get_args(Transform)
        chosen = known if transforms is None else tuple(transforms)
        if wrong := [name for name in chosen if name not in known]:
            refuse(self, "transforms", wrong[0], f"give some of {', '.join(known)}.")
        self.transforms = chosen
        self.register_buffer("p", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1], C 1 or 3, to the same shape; colours may leave the range."""
        if float(self.p) <= 0 or not self.transforms:
            return images
        maps, moved = self.geometry(images)
        colours, coloured = self.colour(images)
        sampled = torch.where(moved.view(-1, 1, 1, 1), sample(images, maps), images)
        return torch.where(coloured.view(-1, 1, 1, 1), recolour(sampled, colours), sampled)

    def geometry(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [N, 3, 3] from places in the result to places in the images, and which are no identity, bool [N].

        Places are in [-1, 1] from edge to edge.
        """
        n, _, height, width = images.shape
        chain, p = _Chain(self, n, images.device), float(self.p)
        chain.add("flip", p, lambda: _scaling(1 - 2 * torch.randint(2, (n,)), torch.ones(n)))
        chain.add("turn", p, lambda: _rotation(torch.randint(4, (n,)) * (math.pi / 2)))

        def whole() -> Tensor:
            x, y = (2 * torch.rand(n) - 1 for _ in range(2))
            return _translation((x * SHIFT * width).round() * 2 / width, (y * SHIFT * height).round() * 2 / height)

        chain.add("shift", p, whole)

        def scaling() -> Tensor:
            factor = torch.exp2(-SCALE * torch.randn(n))
            return _scaling(factor, factor)

        chain.add("scale", p, scaling)
        once = 1 - math.sqrt(1 - min(p, 1))  # so that one of the two comes with the probability p
        chain.add("rotation", once, lambda: _rotation((2 * torch.rand(n) - 1) * math.pi))

        def stretching() -> Tensor:
            factor = torch.exp2(-SCALE * torch.randn(n))
            return _scaling(factor, 1 / factor)

        chain.add("stretch", p, stretching)
        chain.add("rotation", once, lambda: _rotation((2 * torch.rand(n) - 1) * math.pi))
        chain.add("shift", p, lambda: _translation(*(2 * SHIFT * torch.randn(2, n))))
        return chain.total, chain.changed

    def colour(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Affine maps [N, 4, 4] of colours in [-1, 1], and which are no identity, bool [N]."""
        n, p = len(images), float(self.p)
        chain = _Chain(self, n, images.device, size=4)
        grey = torch.ones(3, 3) / 3  # projects on the axis of greys

        def shifted() -> Tensor:
            result = torch.eye(4).repeat(n, 1, 1)
            result[:, :3, 3] = BRIGHTNESS * torch.randn(n, 1)
            return result

        chain.add("brightness", p, shifted, after=True)
        chain.add("contrast", p, lambda: _linear(torch.exp2(CONTRAST * torch.randn(n)), torch.eye(3)), after=True)

        def swapped() -> Tensor:
            return _linear(torch.ones(n), torch.eye(3)) - 2 * _linear(torch.randint(2, (n,)), grey, corner=0)

        chain.add("luma", p, swapped, after=True)
        chain.add("hue", p, lambda: _around_grey((2 * torch.rand(n) - 1) * math.pi), after=True)

        def saturated() -> Tensor:
            factor = torch.exp2(SATURATION * torch.randn(n))
            return _linear(torch.ones(n), grey) + _linear(factor, torch.eye(3) - grey, corner=0)

        chain.add("saturation", p, saturated, after=True)
        return chain.total, chain.changed


class _Chain:
    """A product of random matrices, each of which is drawn for all images and used for some."""

    def __init__(self, owner: AdaptiveAugment, n: int, device: torch.device, size: int = 3) -> None:
        self.transforms, self.device = owner.transforms, device
        self.total = torch.eye(size, device=device).repeat(n, 1, 1)
        self.changed = torch.zeros(n, dtype=torch.bool, device=device)

    def add(self, name: str, p: float, draw: Callable[[], Tensor], after: bool = False) -> None:
        if name not in self.transforms:
            return
        used = (torch.rand(len(self.total)) < p).to(self.device)
        matrix = draw().to(self.total)
        product = matrix @ self.total if after else self.total @ matrix
        self.total = torch.where(used.view(-1, 1, 1), product, self.total)
        self.changed |= used


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.float(), y.float()
    o, i = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[x, o, o], [o, y, o], [o, o, i]])


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    o, i = torch.zeros_like(cos), torch.ones_like(cos)
    return _matrix([[cos, -sin, o], [sin, cos, o], [o, o, i]])


def _translation(x: Tensor, y: Tensor) -> Tensor:
    o, i = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[i, o, x], [o, i, y], [o, o, i]])


def _linear(factor: Tensor, matrix: Tensor, corner: float = 1) -> Tensor:
    """Multiples of a map of colours [3, 3], one per image, as [N, 4, 4]."""
    result = torch.zeros(len(factor), 4, 4)
    result[:, :3, :3] = factor.float().view(-1, 1, 1) * matrix
    result[:, 3, 3] = corner
    return result


def _around_grey(angle: Tensor) -> Tensor:
    """Rotations [N, 4, 4] of colours around the axis of greys, by Rodrigues' formula."""
    a = 1 / math.sqrt(3)
    cross = torch.tensor([[0, -a, a], [a, 0, -a], [-a, a, 0]])
    square = cross @ cross
    return (
        _linear(torch.ones(len(angle)), torch.eye(3))
        + _linear(angle.sin(), cross, corner=0)
        + _linear(1 - angle.cos(), square, corner=0)
    )


def sample(images: Tensor, maps: Tensor) -> Tensor:
    """Images at mapped places: bilinear, with reflected borders, and differentiable as often as one likes.

    ``torch.nn.functional.grid_sample`` has no second derivative.

    Args:
        images: [N, C, H, W].
        maps: [N, 3, 3], from places in the result to places in the images, both in [-1, 1] from edge to edge; for
            rotations the sides count as equally long.

    Returns:
        [N, C, H, W].
    """
    n, channels, height, width = images.shape
    x = (torch.arange(width, device=images.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=images.device) * 2 + 1) / height - 1
    places = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)])
    found = maps.float() @ places  # [N, 3, H W]
    column, row = ((found[:, i] + 1) * size / 2 - 0.5 for i, size in enumerate((width, height)))
    left, top = column.floor(), row.floor()
    flat, total = images.flatten(2), torch.zeros_like(images.flatten(2))
    for j in (0, 1):
        for i in (0, 1):
            weight = (1 - (column - left - i).abs()) * (1 - (row - top - j).abs())
            index = _reflected(top + j, height) * width + _reflected(left + i, width)
            values = flat.gather(2, index.unsqueeze(1).expand(n, channels, -1))
            total = total + weight.unsqueeze(1).to(values) * values
    return total.view_as(images)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Whole indices [..., ] in [0, size), reflected at the edges of the image as often as it takes."""
    folded = index.long() % (2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def recolour(images: Tensor, maps: Tensor) -> Tensor:
    """Images [N, C, H, W] after affine maps [N, 4, 4] of their colours; grey ones get the mean of what comes."""
    n, channels, height, width = images.shape
    colours = images.expand(n, 3, height, width).flatten(2)
    maps = maps.to(colours)
    mapped = (maps[:, :3, :3] @ colours + maps[:, :3, 3:]).view(n, 3, height, width)
    return mapped if channels == 3 else mapped.mean(1, keepdim=True)
