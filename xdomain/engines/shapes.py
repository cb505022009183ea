"""Anti-aliased shapes from signed distances, and the canvas they are painted on.

A distance is negative inside of a shape. All functions are elementwise over tensors that broadcast to [n, 1, s, s] and
use only operations whose result is the same for every batch (see `xdomain.engines.digits`): no exp, no sine.
"""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from xdomain.engines.drawing import pixels

__all__ = ["Canvas", "Window", "between", "cut", "ellipse", "pick", "pixels", "rectangle", "smooth", "table", "wave"]

Window = tuple[slice, slice]
"""Rows and columns of a picture."""


def cut(planes: Tensor, window: Window, who: Tensor | None) -> Tensor:
    """A window of the planes [n, c, s, s] of some images (indices [k], or None: all), contiguous."""
    part = planes[:, :, *window]
    return part.contiguous() if who is None else part[who]


def table(rows: Sequence[tuple[float, ...]], index: Tensor) -> list[Tensor]:
    """Looks up one row per image: index [n] -> one tensor [n, 1, 1, 1] for every column of the table."""
    values = torch.tensor(rows, dtype=torch.float32, device=index.device)[index.long()]
    return [pixels(column) for column in values.unbind(1)]


def pick(palette: Sequence[tuple[float, float, float]], index: Tensor) -> Tensor:
    """Looks up one colour per image: index [n] -> [n, 3, 1, 1]."""
    return pixels(torch.tensor(palette, dtype=torch.float32, device=index.device)[index.long()])


def ellipse(
    x: Tensor,
    y: Tensor,
    rx: Tensor | float,
    ry: Tensor | float,
    square: Tensor | float = 0.0,
    above: Tensor | None = None,
) -> Tensor:
    """Distance to an ellipse around the origin, to first order: exact on the edge and in its slope.

    Args:
        x: coordinate relative to the centre.
        y: coordinate relative to the centre.
        rx: half width.
        ry: half height.
        square: 0 is an ellipse, 1 the rectangle around it (the squircle of Fernandez Guasti, 1992).
        above: half height of the upper half (y < 0) if it is another one.
    """
    per_x, per_y = 1 / rx, 1 / ry  # parameters, mostly: products of pixels are cheaper than quotients

    def flat(y: Tensor) -> Tensor:
        return y * per_y if above is None else (y.clamp(min=0) * per_y).add_(y.clamp(max=0).mul_(1 / above))

    x, y = x * per_x, flat(y)
    slope = (x * per_x).square_().add_(flat(y).square_()).sqrt_().add_(1e-4)
    xx, yy = x.square_(), y.square_()
    radius = xx + yy  # squared
    if isinstance(square, Tensor) or square:
        radius.sub_(xx.clamp_(max=1).mul_(yy.clamp_(max=1)).mul_(square))
    return (radius - radius.sqrt()).div_(slope)


def rectangle(x: Tensor, y: Tensor, hx: Tensor | float, hy: Tensor | float, corner: Tensor | float = 0.0) -> Tensor:
    """Exact distance to a rectangle around the origin with half sides hx, hy and rounded corners."""
    x, y = x.abs().sub(hx - corner), y.abs().sub(hy - corner)
    inside = torch.maximum(x, y).clamp_(max=0)
    outside = x.clamp_(min=0).square_() + y.clamp_(min=0).square_()
    return outside.sqrt_().add_(inside).sub_(corner)


def smooth(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Rises from 0 at `low` to 1 at `high` with zero slope at both ends; falls if high < low."""
    t = (x - low).mul_(1 / (high - low)).clamp_(0, 1)
    return (t * -2).add_(3).mul_(t).mul_(t)


def wave(phase: Tensor) -> Tensor:
    """Parabolas that imitate a sine of period 1, in [-1, 1]."""
    p = phase - phase.round()
    return p.abs().mul_(-16).add_(8).mul_(p)


def between(y: Tensor, low: Tensor | float, high: Tensor | float, pixel: Tensor) -> Tensor:
    """Share of each pixel, `pixel` wide along y, that lies in [low, high]; right for thinner bands, too."""
    per_pixel = 1 / pixel
    above = (y - high).mul_(per_pixel).add_(0.5).clamp_(0, 1)
    return (y - low).mul_(per_pixel).add_(0.5).clamp_(0, 1).sub_(above)


class Canvas:
    """A transparent canvas: painted colours and their opacity, or the visible share of every part.

    Attributes:
        planes: float32 [n, 4, s, s], RGB times opacity, and opacity. With `parts`, [n, len(parts), s, s]: the share of
            each pixel in which the part can be seen.
        pixel: width of a pixel in the units of the distances, [n, 1, 1, 1].
        line: width of the outlines in the same units, [n, 1, 1, 1], or None: no outlines.

    Args:
        size: side of the canvas in pixels.
        pixel: see above.
        line: see above.
        parts: names of the parts to watch instead of colours, or none.
    """

    def __init__(self, size: int, pixel: Tensor, line: Tensor | None, parts: tuple[str, ...] = ()) -> None:
        self.pixel, self.line, self.parts = pixel, line, parts
        self.planes = pixel.new_zeros(len(pixel), len(parts) or 4, size, size)

    @property
    def colour(self) -> Tensor:
        """The planes but for the opacity."""
        return self.planes if self.parts else self.planes[:, :3]

    @property
    def opacity(self) -> Tensor:
        """Float32 [n, 1, s, s]."""
        return self.planes[:, 3:]

    def crop(self, window: Window, who: Tensor | None) -> "Canvas":
        """A window of some images: a view, or, given `who`, a copy that is to be pasted back."""
        part = copy(self)
        part.planes = self.planes[:, :, *window]
        if who is not None:
            part.planes, part.pixel = part.planes[who], self.pixel[who]
            part.line = None if self.line is None else self.line[who]
        return part

    def paste(self, part: "Canvas", window: Window, who: Tensor) -> None:
        """Puts back the copy that `crop` took."""
        self.planes[:, :, *window][who] = part.planes

    def cover(self, distance: Tensor, softness: Tensor | float = 0.0) -> Tensor:
        """Coverage of the pixels by a shape, in [0, 1]; its edge is a pixel and `softness` wide."""
        return (distance * (-1 / (self.pixel + softness))).add_(0.5).clamp_(0, 1)

    def paint(self, cover: Tensor, colour: Tensor, opacity: Tensor | float = 1.0, part: str = "") -> None:
        """Paints over the canvas.

        Args:
            cover: share of each pixel inside of the shape, [n, 1, s, s].
            colour: broadcasts to [n, 3, s, s].
            opacity: of the paint, in [0, 1]. A part is seen wherever its paint is not wholly transparent.
            part: what the shape belongs to.
        """
        share = cover * opacity if isinstance(opacity, Tensor) or opacity < 1 else cover
        if not self.parts:
            self.colour.lerp_(colour, share)
            self.opacity.lerp_(share.new_ones(()), share)
            return
        for i, name in enumerate(self.parts):
            seen = self.colour[:, i, None]
            if name == part:
                seen.add_((1 - seen).mul_(cover * (torch.as_tensor(opacity) > 0)))
            else:
                seen.sub_(seen * share)

    def fill(
        self,
        distance: Tensor,
        colour: Tensor,
        part: str = "",
        *,
        softness: Tensor | float = 0.0,
        present: Tensor | float = 1.0,
        outline: float = 1.0,
    ) -> None:
        """Paints a shape given by its distance, with a dark outline where the style has outlines.

        Args:
            distance: to the edge of the shape.
            colour: broadcasts to [n, 3, s, s].
            part: what the shape belongs to.
            softness: extra width of the edge.
            present: 1 or 0 per image: is the shape there at all.
            outline: width of the outline as a multiple of the usual one.
        """
        if self.line is not None and outline:
            self.paint(self.cover(distance - self.line * outline) * present, colour * 0.28, part=part)
        self.paint(self.cover(distance, softness) * present, colour, part=part)
