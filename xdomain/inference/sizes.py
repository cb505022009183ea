"""From the size of an image to that which a method sees, and back."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xdomain.batch import to_float, to_uint8
from xdomain.errors import UserError
from xdomain.networks.pyramid import resize, size_of_longest
from xdomain.running.outputs import MOST_PIXELS

BAND = 512
"""Rows of a large picture that are computed at once, so that few copies of it as floats exist."""


def square(image: Tensor, size: int) -> Tensor:
    """An image [1, C, H, W] resized to a square."""
    return interpolate(image, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def shrunk(image: Tensor, size: int | None, factor: float | None) -> Tensor:
    """An image [1, C, H, W] with its longer side shrunk to ``size``, if any; unchanged if it will be enlarged."""
    height, width = image.shape[2:]
    if factor is not None:
        if height * width * factor**2 > MOST_PIXELS:
            raise UserError(
                f"factor {factor:g} makes more than {MOST_PIXELS:,} pixels of an image of {height}x{width}."
            )
        return image
    if size is None and height * width > MOST_PIXELS:
        raise UserError(f"an image of {height}x{width} has more than {MOST_PIXELS:,} pixels: give model for the size.")
    return resize(image, size_of_longest(height, width, size)) if size and max(height, width) > size else image


def restored(picture: Tensor, seen: tuple[int, ...], was: tuple[int, ...], pure: bool = False) -> Tensor:
    """An output ``uint8`` [C, h, w], with the resizing of its input from ``was`` to ``seen`` (H, W) undone.

    Colours are mixed by bicubic interpolation, unless they must stay ``pure``, as those of a label map.
    """
    size = [max(1, round(side * own / fitted)) for side, own, fitted in zip(picture.shape[1:], was, seen, strict=True)]
    if size == list(picture.shape[1:]):
        return picture
    if pure:
        return interpolate(picture[None], size, mode="nearest-exact")[0]
    # As floats: between its two passes torch would clamp bytes, up to 20 of 255 away from the true values.
    mixed = interpolate(picture[None].float(), size, mode="bicubic", antialias=True)[0]
    return mixed.round().clamp(0, 255).to(torch.uint8)


def with_change(image: Tensor, seen: Tensor, made: Tensor) -> Tensor:
    """A large image with the change that a method has made to a small copy of it: x + up(made - seen).

    Pixels around which nothing was changed stay as they are, bit for bit.

    Args:
        image: ``uint8`` [C, H, W].
        seen: what the method saw of it, float [C, h, w] in [-1, 1].
        made: what the method made of that, likewise.

    Returns:
        ``uint8`` [C, H, W].
    """
    height, width = image.shape[1:]
    change = interpolate((made - seen)[None].float(), (height, width), mode="bicubic")[0]
    result = torch.empty_like(image)
    for start in range(0, height, BAND):
        band = slice(start, start + BAND)
        result[:, band] = to_uint8(to_float(image[:, band]) + change[:, band])
    return result
