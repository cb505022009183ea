"""The `street` digits: house-number crops in the manner of SVHN, drawn with matplotlib's bundled fonts.

`render_street(indices, seed)` draws a batch. Image i of a seed is a pure function of (seed, i): every random value is
a hash of (seed, i, position in the stream), never a draw from a generator with a state. So an image does not depend on
the batch it is drawn in, and the parts of a data set are disjoint seeds or disjoint index ranges.

Two rules keep the pictures bit-identical for every batch size. Transcendental functions are only applied to the
per-image parameters, in float64 before rounding to float32, because their vectorised and scalar versions may differ in
the last bit. Per-pixel work is elementwise or per-sample (`grid_sample`, pooling), never a matrix product or a
convolution, whose algorithm depends on the batch size.
"""

import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.strokes import draw_hand

# Every bundled font with ten upright, lining digits; cmmi10 (old-style figures) and the symbol fonts are left out.
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"),
)
HANDS = 14  # besides the fonts: painted numbers, two of five
ATLAS_SIZE = 64
INK_HEIGHT = 60  # of ATLAS_SIZE; the rest is a border, so that bilinear sampling fades to zero
SUPERSAMPLING = 2
CHUNK = 256  # images drawn at a time: bounds the memory (about 0.1 GB) and stays in cache
LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def render_street(indices: Tensor, seed: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Draws the images with the given indices from the stream of `seed`.

    Args:
        indices: int64 [n], any values.
        seed: stream of images; different seeds share no image.
        size: side of the square images in pixels.

    Returns:
        images: uint8 [n, 3, size, size], RGB.
        labels: int64 [n] in 0..9, the digit in the middle; uniform over the ten classes.

    Example:
        >>> images, labels = render_street(torch.arange(4), seed=0)
        >>> images.shape, images.dtype, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.uint8, torch.Size([4]))
        >>> torch.equal(render_street(torch.tensor([2]), seed=0)[0], images[2:3])
        True
    """
    images = torch.empty(len(indices), 3, size, size, dtype=torch.uint8, device=indices.device)
    labels = torch.empty_like(indices)
    for start in range(0, len(indices), CHUNK):
        part = slice(start, start + CHUNK)
        images[part], labels[part] = _render(_Draws(indices[part], seed), size)
    return images, labels


class _Draws:
    """Random values for a batch of images; the k-th call returns the same values for an image whatever its batch."""

    def __init__(self, indices: Tensor, seed: int) -> None:
        stream = _splitmix64(torch.tensor(seed, dtype=torch.int64, device=indices.device))
        # Hashed once more than the indices: else image i of seed s would be image s of seed i.
        self.state = _splitmix64(_splitmix64(stream) + _splitmix64(indices))
        self.calls = 0

    def bits(self, *shape: int) -> Tensor:
        """Uniform int64 [n, *shape]."""
        self.calls += 1
        position = torch.arange(torch.Size(shape).numel(), device=self.state.device).view(1, *shape)
        call = _splitmix64(self.state + self.calls)
        return _splitmix64(call.view(-1, *[1] * len(shape)) + position)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform float64 [n, *shape] in [low, high)."""
        return low + (high - low) * _logical_shift(self.bits(*shape), 11).double() * 2.0**-53

    def integers(self, stop: int, *shape: int) -> Tensor:
        """Uniform int64 [n, *shape] in 0..stop-1."""
        return _logical_shift(self.bits(*shape), 32) % stop

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Float64 [n, *shape], 1 with the given probability, else 0."""
        return (self.uniform(0.0, 1.0, *shape) < probability).double()

    def noise(self, *shape: int) -> Tensor:
        """Nearly normal float32 [n, *shape], mean 0, variance 1: four 16-bit parts of one hash, added."""
        bits = self.bits(*shape)
        total = sum((_logical_shift(bits, shift) & 0xFFFF for shift in (0, 16, 32, 48)), torch.zeros_like(bits))
        return (total - 2 * 0xFFFF).float() * (math.sqrt(3) / 65536)


def _logical_shift(x: Tensor, shift: int) -> Tensor:
    """Shifts int64 to the right as if it were unsigned."""
    shifted: Tensor = x >> shift  # copies the sign bit, which the mask removes
    return shifted & ((1 << (64 - shift)) - 1) if shift else x


def _splitmix64(x: Tensor) -> Tensor:
    """One step of the generator of Steele, Lea and Flood (2014), int64 -> int64; products wrap around."""
    x = x - 0x61C8864680B583EB  # + 0x9E3779B97F4A7C15 as a signed number, like the factors below
    x = (x ^ _logical_shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _logical_shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _logical_shift(x, 31)


@cache
def _glyphs() -> tuple[Tensor, Tensor]:
    """Rasterises every digit of every font and every hand, each scaled to the same ink height and centred on its ink.

    Returns:
        masks: float32 [fonts + hands, 10, ATLAS_SIZE, ATLAS_SIZE] in [0, 1].
        widths: float64 [fonts + hands, 10], ink width / ink height.
    """
    masks = torch.zeros(len(FONTS) + HANDS, 10, ATLAS_SIZE, ATLAS_SIZE)
    widths = torch.zeros(len(FONTS) + HANDS, 10, dtype=torch.float64)
    for i, font in enumerate(FONTS):
        path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
        typeface = ImageFont.truetype(str(path), 4 * INK_HEIGHT)
        for digit in range(10):
            left, top, right, bottom = typeface.getbbox(str(digit))
            ink = Image.new("L", (int(right - left), int(bottom - top)))
            ImageDraw.Draw(ink).text((-left, -top), str(digit), font=typeface, fill=255)
            ink = ink.crop(ink.getbbox())
            widths[i, digit] = ink.width / ink.height
            ink = ink.resize((round(INK_HEIGHT * ink.width / ink.height), INK_HEIGHT), Image.Resampling.BOX)
            glyph = Image.new("L", (ATLAS_SIZE, ATLAS_SIZE))
            glyph.paste(ink, ((ATLAS_SIZE - ink.width) // 2, (ATLAS_SIZE - INK_HEIGHT) // 2))
            masks[i, digit] = torch.from_numpy(np.array(glyph)) / 255
    for i in range(HANDS):
        for digit, drawn in enumerate(draw_hand(i, INK_HEIGHT)):
            fits = drawn[:, : ATLAS_SIZE - 2]  # no digit is wider than high, but a slanted heavy one comes close
            top, left = (ATLAS_SIZE - INK_HEIGHT) // 2, (ATLAS_SIZE - fits.shape[1]) // 2
            masks[len(FONTS) + i, digit, top : top + INK_HEIGHT, left : left + fits.shape[1]] = torch.from_numpy(fits)
            widths[len(FONTS) + i, digit] = fits.shape[1] / INK_HEIGHT
    return masks, widths


def _render(draw: _Draws, size: int) -> tuple[Tensor, Tensor]:
    """Draws one chunk: wall, clutter, shadow of the digits, digits, light, blur, sensor noise."""
    labels = draw.integers(10)
    wall, paint = _colours(draw)
    contrast = (_luma(paint) - _luma(wall)).abs()

    picture = _wall(draw, wall, contrast, size)
    ink = _word(draw, labels, size)
    cast = _shift(ink, *(draw.uniform(-2.0, 2.0) * size / 32 for _ in range(2)))
    depth = draw.chance(0.3) * draw.uniform(0.2, 0.7)
    picture = picture * (1 - _pixels(depth) * cast)  # raised digits throw a shadow; flat paint has none
    picture = _blend(picture, _pixels(paint), ink * _pixels(draw.uniform(0.85, 1.0)))
    picture = _blur(picture * _light(draw, size), draw.uniform(0.3, 1.2) * size / 32)

    grain = draw.uniform(0.0, 0.2) ** 2  # squared: most cameras are good, a few are terrible
    picture = picture + _pixels(grain) * draw.noise(3, size, size)
    return (picture * 255).round().clamp(0, 255).byte(), labels


def _colours(draw: _Draws) -> tuple[Tensor, Tensor]:
    """Colours of wall and digits, each float64 [n, 3] in [0, 1], whose lumas differ by at least 0.2."""
    wall = draw.uniform(0.05, 0.95)
    step = draw.uniform(0.2, 0.8)
    brighter = draw.chance(0.5).bool()
    brighter = torch.where(brighter, wall + 0.2 < 1, wall - 0.2 < 0)  # the preferred side, if it leaves room for 0.2
    paint = torch.where(brighter, wall + step, wall - step).clamp(0, 1)
    return _tint(draw, wall), _tint(draw, paint)


def _tint(draw: _Draws, luma: Tensor) -> Tensor:
    """A colour of the given luma [n] with a random hue, mostly pale: float64 [n, 3], always inside the RGB cube."""
    chroma = draw.uniform(-1.0, 1.0, 3)
    chroma = chroma - _luma(chroma)[:, None]
    room = torch.where(chroma > 0, 1 - luma[:, None], luma[:, None]) / chroma.abs().clamp(min=1e-6)
    saturation = torch.minimum(draw.uniform(0.0, 0.7) ** 2, room.amin(1))
    return luma[:, None] + saturation[:, None] * chroma


def _wall(draw: _Draws, colour: Tensor, contrast: Tensor, size: int) -> Tensor:
    """What is behind the digits: stains, siding or bricks, and up to four plates, pipes or spots; [n, 3, size, size].

    All of it differs from the wall by less than the digits do, or nobody could tell which is the number.
    """
    n = len(colour)
    stains = F.interpolate(draw.uniform(-1.0, 1.0, 1, 5, 5).float(), size=(size, size), mode="bilinear")
    picture = _pixels(colour) + stains * _pixels(draw.uniform(0.0, 0.25) * contrast)

    x, y = _plane(draw, size, angle=0.15)
    joints = _wave(y * _pixels(draw.uniform(1.0, 3.5)) + _pixels(draw.uniform(0.0, 1.0)), size)
    posts = _wave(x * _pixels(draw.uniform(0.6, 2.0)) + _pixels(draw.uniform(0.0, 1.0)), size)
    joints = torch.maximum(joints * _pixels(draw.chance(0.25)), posts * _pixels(draw.chance(0.15)))
    picture = picture + joints * _pixels(draw.uniform(-0.6, 0.6) * contrast)

    for _ in range(4):
        x, y = _plane(draw, size, angle=1.6, shift=1.2)
        half_width, half_height = draw.uniform(0.02, 1.0) ** 2, draw.uniform(0.3, 1.5)
        across, along = x.abs() - _pixels(half_width), y.abs() - _pixels(half_height)
        bar = torch.maximum(across, along)
        spot = ((x / _pixels(half_width + 0.05)) ** 2 + (y / _pixels(half_height)) ** 2).sqrt() - 1
        spot = spot * _pixels(half_width + 0.05)  # back to about a distance, so that its edge is one pixel wide, too
        distance = torch.where(_pixels(draw.chance(0.4)) > 0, spot, bar)
        coverage = (0.5 - distance * (size / 2)).clamp(0, 1) * _pixels(draw.chance(0.4) * draw.uniform(0.4, 1.0))
        luma = (_luma(colour) + draw.uniform(-0.6, 0.6) * contrast).clamp(0, 1)
        picture = _blend(picture, _pixels(_tint(draw, luma)), coverage)
    return picture.expand(n, 3, size, size)


def _word(draw: _Draws, labels: Tensor, size: int) -> Tensor:
    """Coverage by the digit and its neighbours, which stand on one line in one font: float32 [n, 1, size, size]."""
    n, fine = len(labels), size * SUPERSAMPLING
    masks, widths = (table.to(labels.device) for table in _glyphs())
    font = draw.integers(len(FONTS) + HANDS)[:, None]
    digits = torch.stack([labels, draw.integers(10), draw.integers(10)], dim=1)  # middle, left, right
    width = widths[font, digits]
    distance = (width[:, 1:] + width[:, :1]) + draw.uniform(0.15, 0.6)[:, None]
    offset = torch.cat([torch.zeros_like(width[:, :1]), distance * distance.new_tensor([-1, 1])], dim=1)

    # Unit of x and y below: half the height of a digit. The crop is square, the box of a digit is not: hence `stretch`.
    x, y = _plane(draw, fine, angle=0.2, shift=0.12)
    height, stretch = draw.uniform(0.55, 0.95), draw.uniform(0.9, 1.5)
    x = (x + y * _pixels(draw.uniform(-0.25, 0.25))) / _pixels(height * stretch)
    y = y / _pixels(height)
    grid = torch.stack([x - offset.float()[:, :, None, None], y.expand(n, 3, fine, fine)], dim=-1)
    grid = grid * (INK_HEIGHT / ATLAS_SIZE)
    glyphs = masks[font, digits].view(n * 3, 1, ATLAS_SIZE, ATLAS_SIZE)
    coverage = F.grid_sample(glyphs, grid.view(n * 3, fine, fine, 2), align_corners=False)
    coverage = F.avg_pool2d(coverage, SUPERSAMPLING).view(n, 3, size, size)
    present = torch.cat([torch.ones_like(width[:, :1]), draw.chance(0.55, 2)], dim=1)
    return (coverage * present.float()[:, :, None, None]).amax(1, keepdim=True)


def _light(draw: _Draws, size: int) -> Tensor:
    """Light that falls off to one side, and sometimes a straight edge of shade: factors [n, 1, size, size]."""
    x, _ = _plane(draw, size, angle=3.2)
    fall = 1 + x * _pixels(draw.uniform(0.0, 0.25))
    x, _ = _plane(draw, size, angle=3.2, shift=0.8)
    shade = (0.5 + x * (size / 6)).clamp(0, 1)  # the edge is about six pixels wide at any size
    return fall * (1 - shade * _pixels(draw.chance(0.2) * draw.uniform(0.1, 0.4)))


def _plane(draw: _Draws, size: int, angle: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of all pixels, float32 [n, 1, size, size], in a frame that is turned and shifted at random.

    The picture spans [-1, 1] in both directions; `angle` (radians) and `shift` are the largest absolute values.
    """
    axis = (2 * torch.arange(size, dtype=torch.float32, device=draw.state.device) + 1) / size - 1
    turn = draw.uniform(-angle, angle)
    cos, sin = _pixels(turn.cos()), _pixels(turn.sin())
    x = axis.view(1, 1, 1, -1) - _pixels(draw.uniform(-shift, shift))
    y = axis.view(1, 1, -1, 1) - _pixels(draw.uniform(-shift, shift))
    return x * cos + y * sin, y * cos - x * sin


def _wave(phase: Tensor, size: int) -> Tensor:
    """Thin soft lines at every integer phase, values in [0, 1]."""
    return (1 - (phase - phase.round()).abs() * (size / 3)).clamp(min=0)


def _shift(mask: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Moves each mask [n, 1, s, s] by its own whole number of pixels dx, dy [n]; the border row enters."""
    n, _, s, _ = mask.shape
    axis = torch.arange(s, device=mask.device)
    columns = (axis - dx.round().long()[:, None]).clamp(0, s - 1)[:, None, None, :].expand(n, 1, s, s)
    rows = (axis - dy.round().long()[:, None]).clamp(0, s - 1)[:, None, :, None].expand(n, 1, s, s)
    return mask.gather(3, columns).gather(2, rows)


def _blur(picture: Tensor, sigma: Tensor) -> Tensor:
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
            picture = picture + padded.narrow(dim, k, size) * _pixels(weights[:, k])
    return picture


def _blend(below: Tensor, above: Tensor, coverage: Tensor) -> Tensor:
    return below + (above - below) * coverage


def _luma(colour: Tensor) -> Tensor:
    """Brightness [n] of colours [n, 3]; written out, since a matrix product may depend on the batch size."""
    return colour[:, 0] * LUMA[0] + colour[:, 1] * LUMA[1] + colour[:, 2] * LUMA[2]


def _pixels(parameter: Tensor) -> Tensor:
    """Per-image parameters [n] or [n, c] as float32 [n, c or 1, 1, 1], ready to meet pixels."""
    return parameter.float().view(len(parameter), -1, 1, 1)
