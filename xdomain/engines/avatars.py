"""Cartoon faces: photos and emojis of the same people, the stand-in for CelebA and a service that draws emojis.

An avatar is a row of parameters u (`SCHEMA`): who it is (identity), what it shows (attribute: glasses, smile, beard,
hat, ...) and how it was taken (nuisance: pose, light, background, noise). `render` draws u as a ``photo`` or as an
``emoji``, which shows the identity and the attributes, but no nuisance. A picture is a pure function of its row,
whatever the batch: see the two rules in `xdomain.engines.digits`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.avatar_face import (
    Head,
    draw_body,
    draw_brows,
    draw_complexion,
    draw_ears,
    draw_eyes,
    draw_freckles,
    draw_mole,
    draw_mouth,
    draw_nose,
    draw_skin,
)
from xdomain.engines.avatar_schema import ATTRIBUTES, BACKGROUNDS, SCHEMA, attributes, draw_parameters, with_attribute
from xdomain.engines.avatar_wear import Hair, draw_beard, draw_glasses, draw_hat, draw_moustache
from xdomain.engines.drawing import Draws
from xdomain.engines.shapes import Canvas, Window, pixels, smooth

VERSION = 1
"""To be raised when any picture changes: data drawn by another version are drawn again."""

__all__ = ["ATTRIBUTES", "PARTS", "SCHEMA", "attributes", "draw_parameters", "render", "render_masks", "with_attribute"]

Style = Literal["photo", "emoji"]
PARTS = ("glasses", "facial_hair", "hair", "mouth", "hat")
CHUNK = 2**17  # pixels drawn at a time: what a chunk needs stays in cache
GRAIN = 512  # side of the tile from which every picture cuts its noise
LOWERED = 0.03  # a head without shift stands a little below the middle
EMOJI_SCALE = 1.16
EMOJI_LINE = 0.02
EMOJI_GROUND = (0.93, 0.95, 0.97)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Drawing is thousands of operations of some microseconds: threads would wait for each other longer than work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def render(u: Tensor, size: int = 64, style: Style = "photo") -> Tensor:
    """Draws avatars.

    Args:
        u: parameters [n, P].
        size: side of the square pictures in pixels, at most GRAIN.
        style: ``photo``: shaded, lit, in front of a cluttered wall, with sensor noise; ``emoji``: flat colours with
            dark outlines on a plain ground, upright and in the middle.

    Returns:
        uint8 [n, 3, size, size], RGB.

    Example:
        >>> u = draw_parameters(torch.arange(2), torch.zeros(2, dtype=torch.int64), seed=0)
        >>> render(u, size=32).shape, render(u, size=32, style="emoji").dtype
        (torch.Size([2, 3, 32, 32]), torch.uint8)
    """
    if style not in ("photo", "emoji"):
        raise ValueError(f"style must be 'photo' or 'emoji', not {style!r}")
    if not 0 < size <= GRAIN:
        raise ValueError(f"size must be between 1 and {GRAIN}, not {size}")
    pictures = torch.empty(len(u), 3, size, size, dtype=torch.uint8, device=u.device)
    step = max(CHUNK // size**2, 1)
    for start in range(0, len(u), step):
        head = _head(u[start : start + step], size, style)
        canvas = _draw(head, size, ())
        picture = _develop(head, canvas) if style == "photo" else _plain(canvas)
        pictures[start : start + step] = picture.mul_(255).round_().clamp_(0, 255)
    return pictures


@_one_thread()
def render_masks(u: Tensor, size: int = 64, style: Style = "photo") -> dict[str, Tensor]:
    """Draws where the parts of avatars can be seen; what a later layer covers does not count.

    Clear lenses are glasses, stubble is facial hair, and the mouth is lips, teeth and what is between them.

    Args:
        u: parameters [n, P].
        size: side of the square masks in pixels.
        style: as for `render`; the masks are those of the picture before blur.

    Returns:
        For every name of PARTS uint8 [n, 1, size, size]: 255 times the share of the pixel.
    """
    masks = torch.empty(len(u), len(PARTS), size, size, dtype=torch.uint8, device=u.device)
    step = max(CHUNK // size**2, 1)
    for start in range(0, len(u), step):
        canvas = _draw(_head(u[start : start + step], size, style), size, PARTS)
        masks[start : start + step] = (canvas.colour * 255).round_().clamp_(0, 255).byte()
    return {part: masks[:, i, None] for i, part in enumerate(PARTS)}


def _head(u: Tensor, size: int, style: Style) -> Head:
    """Poses the heads of one chunk."""
    emoji = style == "emoji"
    if emoji:
        u = u.clone()
        for i in SCHEMA.groups["nuisance"]:
            parameter = SCHEMA.parameters[i]
            u[:, i] = 0.0 if parameter.kind == "choice" else (parameter.low + parameter.high) / 2
        u[:, SCHEMA.index("scale")] = EMOJI_SCALE

    def column(name: str) -> Tensor:
        return u[:, SCHEMA.index(name)].double()

    axis = (2 * torch.arange(size, dtype=torch.float32, device=u.device) + 1) / size - 1
    x = axis.view(1, 1, 1, -1) - pixels(column("shift_x"))
    y = axis.view(1, 1, -1, 1) - pixels(column("shift_y") + LOWERED)
    cos, sin = pixels(column("tilt").cos() / column("scale")), pixels(column("tilt").sin() / column("scale"))
    return Head(u, x * cos + y * sin, y * cos - x * sin, emoji)


def _draw(head: Head, size: int, parts: tuple[str, ...]) -> Canvas:
    """Paints all layers, back to front."""
    pixel = 2 / size / head["scale"]
    canvas = Canvas(size, pixel, torch.full_like(pixel, EMOJI_LINE) if head.emoji else None, parts)
    hair = Hair(head)

    def add(layer: Callable[[Head, Canvas], None], low: float, high: float, wide: float, owners: str = "") -> None:
        """Draws only there where the layer may be (see `_window`), and only for heads of which `owners` is not 0."""
        who = head.who(owners) if owners else None
        if who is None or len(who):
            window = _window(head, size, low, high, wide)
            part = canvas.crop(window, who)
            layer(head.crop(window, who), part)
            if who is not None:
                canvas.paste(part, window, who)

    hair.draw_back(canvas)
    add(draw_body, 0.13, 2.0, 0.9)
    add(draw_ears, -0.2, 0.32, 0.65)
    draw_skin(head, canvas)
    add(draw_complexion, -0.25, 0.57, 0.5)
    add(draw_freckles, -0.04, 0.36, 0.43, "freckles")
    add(draw_mole, 0.1, 0.56, 0.38, "mole")
    add(draw_nose, -0.12, 0.35, 0.28)
    add(draw_beard, -0.1, 0.85, 0.65, "beard")
    add(draw_mouth, 0.07, 0.73, 0.37)
    add(draw_moustache, 0.04, 0.57, 0.39, "beard")
    add(draw_eyes, -0.2, 0.15, 0.44)
    add(draw_brows, -0.36, 0.05, 0.44)
    hair.draw_front(canvas)
    add(draw_glasses, -0.3, 0.25, 0.53, "glasses")
    add(draw_hat, -1.5, 0.05, 0.85, "hat")
    return canvas


def _window(head: Head, size: int, low: float, high: float, wide: float) -> Window:
    """Where in the pictures of a chunk a part of the heads may lie.

    Args:
        head: the chunk.
        size: side of the pictures in pixels.
        low: least y of the part in the frame of any head.
        high: largest y.
        wide: largest distance from x = 0.
    """
    (small, large), (left, right), (up, down), (back, forth) = head.pose
    tilt = max(-back, forth)
    top, bottom = low - wide * tilt, high + wide * tilt
    top, bottom = min(small * top, large * top) + up + LOWERED, max(small * bottom, large * bottom) + down + LOWERED
    half = (wide + max(-low, high) * tilt) * large

    def span(start: float, stop: float) -> slice:
        return slice(max(int((start + 1) / 2 * size) - 1, 0), max(int((stop + 1) / 2 * size) + 2, 0))

    return span(top, bottom), span(left - half, right + half)


def _plain(canvas: Canvas) -> Tensor:
    """Puts emojis on their plain ground."""
    ground = canvas.colour.new_tensor(EMOJI_GROUND).view(1, 3, 1, 1)
    return (1 - canvas.opacity).mul(ground).add_(canvas.colour)


def _develop(head: Head, canvas: Canvas) -> Tensor:
    """Makes photos of painted heads: light, wall, blur, exposure, noise; [n, 3, s, s] in about [0, 1]."""
    size = canvas.colour.shape[-1]
    draw = Draws(head.column("noise_seed").long(), 0)
    stains = enlarged(draw.uniform(-1.0, 1.0, 1, 9, 9).float(), size, "bilinear")
    person = canvas.colour * stains.mul_(0.04).add_(_light(head))
    picture = _wall(head, draw, size).mul_(1 - canvas.opacity).add_(person)
    picture = blur(picture, head["blur"])
    tint = head["warmth"] * picture.new_tensor([0.08, 0.0, -0.1]).view(1, 3, 1, 1)
    return picture.mul_(head["exposure"] * (1 + tint)).add_(_grain(draw, size).mul_(head["noise"]))


def _light(head: Head) -> Tensor:
    """Brightness of a head-shaped ellipsoid under a lamp and in a bright room, [n, 1, s, s] around 1."""
    x, y = head.x * (1 / (head["face_width"] + 0.08)), (head.y - 0.02).mul_(1 / 0.66)
    radius = (x * x).add_(y * y)  # squared
    depth = (1 - radius).clamp_(min=0.02)  # squared
    length = radius.add_(depth).sqrt_()  # more than 1 outside of the ellipsoid
    lamp_x, lamp_y = head["light_x"], head["light_y"]
    lamp = (lamp_x * lamp_x + lamp_y * lamp_y + 1).sqrt()
    facing = x.mul_(lamp_x / lamp).add_(y.mul_(lamp_y / lamp)).add_(depth.sqrt_().mul_(1 / lamp)).div_(length)
    strength = head["light_strength"]
    return facing.clamp_(min=-0.3).mul_(strength).add_(1.0 - strength * 0.75)


def _wall(head: Head, draw: Draws, size: int) -> Tensor:
    """What is behind the person: two colours and out-of-focus clutter, [n, 3, s, s]."""
    wall, thing = (torch.cat([head[f"{what}_{c}"] for c in ("red", "green", "blue")], 1) for what in ("wall", "object"))
    wall, thing = (0.1 + 0.36 * c + 0.147 * (c[:, :1] + c[:, 1:2] + c[:, 2:]) for c in (wall, thing))  # paler
    clouds, panels, boxes = (head["background"] == BACKGROUNDS.index(kind) for kind in BACKGROUNDS[1:])
    axis = (2 * torch.arange(size, dtype=torch.float32, device=wall.device) + 1) / size - 1
    x, y = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    slope_x, slope_y, period, phase = (pixels(draw.uniform(*r)) for r in ((-0.3, 0.3), (-0.3, 0.3), (0.8, 2.5), (0, 1)))
    mix = 0.25 + slope_x * x + slope_y * y
    lumps = enlarged(draw.uniform(-1.0, 1.0, 1, 5, 5).float(), size, "bicubic")
    mix.add_(lumps.mul_(0.15 + 0.5 * clouds))
    beat = x * period + phase
    mix.add_(panels * smooth((beat - beat.round()).abs(), 0.2, 0.3))
    who = boxes.flatten().nonzero()[:, 0]
    for _ in range(3):
        at, half, change = (pixels(draw.uniform(*r))[who] for r in ((-1.0, 1.0, 2), (0.15, 0.6, 2), (-0.8, 0.8)))
        gap = torch.maximum((x - at[:, :1]).abs() - half[:, :1], (y - at[:, 1:]).abs() - half[:, 1:])
        mix[who] += change * smooth(gap, 0.05, -0.05)
    return (mix.clamp_(0, 1) * (thing - wall)).add_(wall)


def enlarged(grid: Tensor, size: int, mode: str) -> Tensor:
    """`F.interpolate` of [n, 1, k, k] to [n, 1, size, size]: rows first, then columns, which is ten times faster."""
    k = grid.shape[-1]
    weights = F.interpolate(torch.eye(k, device=grid.device)[None, None], size=(k, size), mode=mode)[0, 0]
    rows = sum((grid[:, :, i, None] * weights[i][:, None] for i in range(k)), grid.new_zeros(()))
    return sum((rows[..., i, None] * weights[i] for i in range(k)), grid.new_zeros(()))


def blur(picture: Tensor, amount: Tensor) -> Tensor:
    """Mixes each picture with its mean over a window of about 1/21 of its side."""
    size = picture.shape[-1]
    radius = round(size / 64)
    mean = picture
    for dim in (2, 3):
        padded = F.pad(mean, (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0), mode="replicate")
        mean = padded.narrow(dim, 0, size).clone()
        for k in range(1, 2 * radius + 1):
            mean.add_(padded.narrow(dim, k, size))
        mean.mul_(1 / (2 * radius + 1))
    return picture.lerp(mean, amount)


@cache
def _tile() -> Tensor:
    """Nearly normal noise, float32 [3, GRAIN, GRAIN]."""
    return Draws(torch.zeros(1, dtype=torch.int64), 0).noise(3, GRAIN, GRAIN)[0]


def _grain(draw: Draws, size: int) -> Tensor:
    """Sensor noise [n, 3, size, size] of unit variance: a window of the tile at a place of its own."""
    tile = _tile().to(draw.state.device)
    corners = draw.integers(GRAIN - size + 1, 2).tolist()
    return torch.stack([tile[:, row : row + size, column : column + size] for row, column in corners])
