"""The `street` digits: house-number crops in the manner of SVHN, drawn with matplotlib's bundled fonts.

`render_street(indices, seed)` draws a batch. Image i of a seed is a pure function of (seed, i), bit-identical for every
batch size: see :mod:`xdomain.engines.drawing`.
"""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.drawing import Draws, blend, blur, pixels, plane
from xdomain.engines.strokes import draw_hand

VERSION = 1
"""To be raised when any picture changes: data drawn by another version are drawn again."""

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
        images[part], labels[part] = _render(Draws(indices[part], seed), size)
    return images, labels


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


def _render(draw: Draws, size: int) -> tuple[Tensor, Tensor]:
    """Draws one chunk: wall, clutter, shadow of the digits, digits, light, blur, sensor noise."""
    labels = draw.integers(10)
    wall, paint = _colours(draw)
    contrast = (_luma(paint) - _luma(wall)).abs()

    picture = _wall(draw, wall, contrast, size)
    ink = _word(draw, labels, size)
    cast = _shift(ink, *(draw.uniform(-2.0, 2.0) * size / 32 for _ in range(2)))
    depth = draw.chance(0.3) * draw.uniform(0.2, 0.7)
    picture = picture * (1 - pixels(depth) * cast)  # raised digits throw a shadow; flat paint has none
    picture = blend(picture, pixels(paint), ink * pixels(draw.uniform(0.85, 1.0)))
    picture = blur(picture * _light(draw, size), draw.uniform(0.3, 1.2) * size / 32)

    grain = draw.uniform(0.0, 0.2) ** 2  # squared: most cameras are good, a few are terrible
    picture = picture + pixels(grain) * draw.noise(3, size, size)
    return (picture * 255).round().clamp(0, 255).byte(), labels


def _colours(draw: Draws) -> tuple[Tensor, Tensor]:
    """Colours of wall and digits, each float64 [n, 3] in [0, 1], whose lumas differ by at least 0.2."""
    wall = draw.uniform(0.05, 0.95)
    step = draw.uniform(0.2, 0.8)
    brighter = draw.chance(0.5).bool()
    brighter = torch.where(brighter, wall + 0.2 < 1, wall - 0.2 < 0)  # the preferred side, if it leaves room for 0.2
    paint = torch.where(brighter, wall + step, wall - step).clamp(0, 1)
    return _tint(draw, wall), _tint(draw, paint)


def _tint(draw: Draws, luma: Tensor) -> Tensor:
    """A colour of the given luma [n] with a random hue, mostly pale: float64 [n, 3], always inside the RGB cube."""
    chroma = draw.uniform(-1.0, 1.0, 3)
    chroma = chroma - _luma(chroma)[:, None]
    room = torch.where(chroma > 0, 1 - luma[:, None], luma[:, None]) / chroma.abs().clamp(min=1e-6)
    saturation = torch.minimum(draw.uniform(0.0, 0.7) ** 2, room.amin(1))
    return luma[:, None] + saturation[:, None] * chroma


def _wall(draw: Draws, colour: Tensor, contrast: Tensor, size: int) -> Tensor:
    """What is behind the digits: stains, siding or bricks, and up to four plates, pipes or spots; [n, 3, size, size].

    All of it differs from the wall by less than the digits do, or nobody could tell which is the number.
    """
    n = len(colour)
    stains = F.interpolate(draw.uniform(-1.0, 1.0, 1, 5, 5).float(), size=(size, size), mode="bilinear")
    picture = pixels(colour) + stains * pixels(draw.uniform(0.0, 0.25) * contrast)

    x, y = plane(draw, size, angle=0.15)
    joints = _wave(y * pixels(draw.uniform(1.0, 3.5)) + pixels(draw.uniform(0.0, 1.0)), size)
    posts = _wave(x * pixels(draw.uniform(0.6, 2.0)) + pixels(draw.uniform(0.0, 1.0)), size)
    joints = torch.maximum(joints * pixels(draw.chance(0.25)), posts * pixels(draw.chance(0.15)))
    picture = picture + joints * pixels(draw.uniform(-0.6, 0.6) * contrast)

    for _ in range(4):
        x, y = plane(draw, size, angle=1.6, shift=1.2)
        half_width, half_height = draw.uniform(0.02, 1.0) ** 2, draw.uniform(0.3, 1.5)
        across, along = x.abs() - pixels(half_width), y.abs() - pixels(half_height)
        bar = torch.maximum(across, along)
        spot = ((x / pixels(half_width + 0.05)) ** 2 + (y / pixels(half_height)) ** 2).sqrt() - 1
        spot = spot * pixels(half_width + 0.05)  # back to about a distance, so that its edge is one pixel wide, too
        distance = torch.where(pixels(draw.chance(0.4)) > 0, spot, bar)
        coverage = (0.5 - distance * (size / 2)).clamp(0, 1) * pixels(draw.chance(0.4) * draw.uniform(0.4, 1.0))
        luma = (_luma(colour) + draw.uniform(-0.6, 0.6) * contrast).clamp(0, 1)
        picture = blend(picture, pixels(_tint(draw, luma)), coverage)
    return picture.expand(n, 3, size, size)


def _word(draw: Draws, labels: Tensor, size: int) -> Tensor:
    """Coverage by the digit and its neighbours, which stand on one line in one font: float32 [n, 1, size, size]."""
    n, fine = len(labels), size * SUPERSAMPLING
    masks, widths = (table.to(labels.device) for table in _glyphs())
    font = draw.integers(len(FONTS) + HANDS)[:, None]
    digits = torch.stack([labels, draw.integers(10), draw.integers(10)], dim=1)  # middle, left, right
    width = widths[font, digits]
    distance = (width[:, 1:] + width[:, :1]) + draw.uniform(0.15, 0.6)[:, None]
    offset = torch.cat([torch.zeros_like(width[:, :1]), distance * distance.new_tensor([-1, 1])], dim=1)

    # Unit of x and y below: half the height of a digit. The crop is square, the box of a digit is not: hence `stretch`.
    x, y = plane(draw, fine, angle=0.2, shift=0.12)
    height, stretch = draw.uniform(0.55, 0.95), draw.uniform(0.9, 1.5)
    x = (x + y * pixels(draw.uniform(-0.25, 0.25))) / pixels(height * stretch)
    y = y / pixels(height)
    grid = torch.stack([x - offset.float()[:, :, None, None], y.expand(n, 3, fine, fine)], dim=-1)
    grid = grid * (INK_HEIGHT / ATLAS_SIZE)
    glyphs = masks[font, digits].view(n * 3, 1, ATLAS_SIZE, ATLAS_SIZE)
    coverage = F.grid_sample(glyphs, grid.view(n * 3, fine, fine, 2), align_corners=False)
    coverage = F.avg_pool2d(coverage, SUPERSAMPLING).view(n, 3, size, size)
    present = torch.cat([torch.ones_like(width[:, :1]), draw.chance(0.55, 2)], dim=1)
    return (coverage * present.float()[:, :, None, None]).amax(1, keepdim=True)


def _light(draw: Draws, size: int) -> Tensor:
    """Light that falls off to one side, and sometimes a straight edge of shade: factors [n, 1, size, size]."""
    x, _ = plane(draw, size, angle=3.2)
    fall = 1 + x * pixels(draw.uniform(0.0, 0.25))
    x, _ = plane(draw, size, angle=3.2, shift=0.8)
    shade = (0.5 + x * (size / 6)).clamp(0, 1)  # the edge is about six pixels wide at any size
    return fall * (1 - shade * pixels(draw.chance(0.2) * draw.uniform(0.1, 0.4)))


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


def _luma(colour: Tensor) -> Tensor:
    """Brightness [n] of colours [n, 3]; written out, since a matrix product may depend on the batch size."""
    return colour[:, 0] * LUMA[0] + colour[:, 1] * LUMA[1] + colour[:, 2] * LUMA[2]
