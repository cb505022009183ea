"""House fronts in the style of CMP Facades (Tylecek and Sara, 2013): pairs of a label map and a photo.

Both pictures use the same list of layers, `_layers`, so they agree to the pixel: a pixel has the class of a layer that
covers at least half of it. Edges are box-filtered in closed form, so the photo is anti-aliased without supersampling.
Neither picture depends on the batch: see `xdomain.engines.digits`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from xdomain.engines.drawing import Draws, blend, blur, mix, pixels, soft_noise, stripes
from xdomain.engines.schema import Parameter, Schema

VERSION = 1
"""Increase it when any picture changes: data drawn by another version are drawn again."""

CLASSES = (
    *("background", "facade", "window", "door", "cornice", "sill"),
    *("balcony", "blind", "deco", "molding", "pillar", "shop"),
)
"""The classes of the data set; the id of a class is its position, counted from 1."""

PALETTE = (
    *((0, 0, 223), (0, 48, 255), (0, 128, 255), (0, 207, 255), (32, 255, 223), (112, 255, 143)),
    *((191, 255, 64), (255, 239, 0), (255, 159, 0), (255, 80, 0), (255, 0, 0), (175, 0, 0)),
)
"""Their RGB colours in the rendering that pix2pix made popular (read off its JPEG files)."""

BACKGROUND, WALL, WINDOW, DOOR, CORNICE, SILL, BALCONY, BLIND, DECO, MOLDING, PILLAR, SHOP = range(1, 13)

SCHEMA = Schema(
    [
        Parameter("floors", "choice", values=("3", "4", "5", "6"), group="layout"),
        Parameter("columns", "choice", values=("3", "4", "5", "6", "7"), group="layout"),
        Parameter("left", "continuous", 0.0, 0.12, group="layout"),
        Parameter("right", "continuous", 0.88, 1.0, group="layout"),
        Parameter("top", "continuous", 0.05, 0.2, group="layout"),
        Parameter("bottom", "continuous", 0.92, 0.98, group="layout"),
        Parameter("ground", "continuous", 1.1, 1.5, group="layout"),  # height of the ground floor / of a floor
        Parameter("pairing", "continuous", -0.12, 0.12, group="layout"),  # columns move together in pairs
        Parameter("tilt", "continuous", -0.06, 0.06, group="layout"),  # perspective: the top is nearer or farther
        Parameter("turn", "continuous", -0.04, 0.04, group="layout"),  # perspective: the left is nearer or farther
        Parameter("width", "continuous", 0.34, 0.56, group="windows"),  # of a window / of its column
        Parameter("height", "continuous", 0.46, 0.62, group="windows"),  # of a window / of its floor
        Parameter("panes", "choice", values=("1", "2", "3"), group="windows"),
        Parameter("frames", "choice", values=("white", "brown"), group="windows"),
        Parameter("blinds", "choice", values=("none", "shutters", "rollers"), group="windows"),
        Parameter("sills", "choice", values=("no", "yes"), group="windows"),
        Parameter("cornices", "choice", values=("no", "yes"), group="windows"),
        Parameter("deco", "choice", values=("no", "below", "between"), group="ornament"),
        Parameter("moldings", "choice", values=("roof", "ground floor", "every floor"), group="ornament"),
        Parameter("pillars", "choice", values=("no", "ends", "columns"), group="ornament"),
        Parameter("balconies", "choice", values=("no", "middle", "alternating", "every"), group="ornament"),
        Parameter("shops", "choice", values=("no", "yes"), group="ornament"),
        Parameter("material", "choice", values=("plaster", "brick", "stone"), group="surface"),
        Parameter("brightness", "continuous", 0.0, 1.0, group="surface"),  # of the wall, within its material
        Parameter("warmth", "continuous", 0.0, 1.0, group="surface"),
        Parameter("light", "continuous", -1.0, 1.0, group="camera"),  # the sun is left or right
        Parameter("clouds", "continuous", 0.0, 1.0, group="camera"),
        Parameter("variation", "continuous", 0.0, 2.0**23, group="camera"),  # hashed: what differs between windows
    ]
)
"""The parameters. Lengths are shares of the picture or of what the comment says; y points down."""

CHUNK = 32  # images drawn at a time: bounds the memory
COLUMNS = 8  # more than any front has
CELLS = 6 * COLUMNS


def draw_parameters(indices: Tensor, seed: int) -> Tensor:
    """Uniform parameters u, float32 [n, 28]; row i is a pure function of (seed, indices[i])."""
    return SCHEMA.draw(Draws(indices, seed))


def render_labels(u: Tensor, size: int = 128) -> Tensor:
    """Draws label maps: parameters u [n, 28] -> class ids 1..12, uint8 [n, size, size]."""
    labels = torch.empty(len(u), size, size, dtype=torch.uint8, device=u.device)
    for start in range(0, len(u), CHUNK):
        part = labels[start : start + CHUNK]
        for layer in _layers(u[start : start + CHUNK], size):
            if layer.label:
                part[(layer.coverage >= 0.5).squeeze(1).expand_as(part)] = layer.label
    return labels


def render(u: Tensor, size: int = 128) -> Tensor:
    """Draws the photos of the same fronts: parameters u [n, 28] -> uint8 [n, 3, size, size], RGB."""
    images = torch.empty(len(u), 3, size, size, dtype=torch.uint8, device=u.device)
    for start in range(0, len(u), CHUNK):
        images[start : start + CHUNK] = _photo(u[start : start + CHUNK], size)
    return images


def labels_to_rgb(labels: Tensor) -> Tensor:
    """Paints class ids 1..12, any integers [n, h, w], in the colours of the data set: uint8 [n, 3, h, w]."""
    palette = torch.tensor(PALETTE, dtype=torch.uint8, device=labels.device)
    return palette[labels.long() - 1].movedim(-1, 1)


def rgb_to_labels(images: Tensor) -> Tensor:
    """Reads class ids off painted label maps: uint8 [n, 3, h, w] -> uint8 [n, h, w], nearest colour."""
    palette = torch.tensor(PALETTE, dtype=torch.int32, device=images.device)
    distance = [((images.int() - colour.view(1, 3, 1, 1)) ** 2).sum(1) for colour in palette]
    return (torch.stack(distance).argmin(0) + 1).byte()


class _Layer(NamedTuple):
    """One object in front of all earlier ones.

    Attributes:
        label: its class; 0 keeps the class below.
        coverage: share of every pixel that it takes, [n, 1, s, s] in [0, 1].
        colour: in [0, 1], broadcasts to [n, 3, s, s].
        opacity: in [0, 1], broadcasts to [n, 1, s, s]; the label does not depend on it.
    """

    label: int
    coverage: Tensor
    colour: Tensor | float
    opacity: Tensor | float = 1.0


def _photo(u: Tensor, size: int) -> Tensor:
    variation, light = (u[:, SCHEMA.index(name)].double() for name in ("variation", "light"))
    draw = Draws(variation.long(), seed=1)
    picture = torch.zeros(len(u), 3, size, size, device=u.device)
    for layer in _layers(u, size):
        picture = picture + (layer.colour - picture) * (layer.coverage * layer.opacity)
    axis = (torch.arange(size, dtype=torch.float32, device=u.device) + 0.5) / size - 0.5
    across, down = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    picture = picture * (1 + across * pixels(light * 0.3) - down * 0.1)
    # The shade of the house across the street: its edge runs across the front.
    edge = across * pixels(light.sign() * draw.uniform(0.5, 1.5)) - down + pixels(draw.uniform(0.3, 0.9))
    shade = (0.5 - edge * 12).clamp(0, 1)
    picture = picture * (1 - shade * pixels(draw.chance(0.4) * draw.uniform(0.15, 0.35)))
    picture = blur(picture, draw.uniform(0.2, 0.5) * size / 128)
    picture = picture * pixels(draw.uniform(0.85, 1.1)) + pixels(draw.uniform(-0.02, 0.04))  # exposure, haze
    picture = picture + pixels(draw.uniform(0.004, 0.02)) * draw.noise(3, size, size)
    return (picture * 255).round().clamp(0, 255).byte()


def _layers(u: Tensor, size: int) -> Iterator[_Layer]:
    """Everything in the picture, from back to front."""
    p = {name: column.double() for name, column in zip(SCHEMA.names, u.unbind(1), strict=True)}
    draw = Draws(p["variation"].long(), seed=0)
    x, y = plane(p, size)
    clouds = soft_noise(draw, 5, size) * 0.5 + soft_noise(draw, 12, size) * 0.3
    mottle = soft_noise(draw, 4, size) * 0.5 + soft_noise(draw, 17, size) * 0.3 + soft_noise(draw, 61, size) * 0.2

    def pixel(name: str) -> Tensor:
        return pixels(p[name])

    def option(name: str, *values: str) -> Tensor:
        """1 where the choice is one of the values, else 0."""
        known = SCHEMA.parameters[SCHEMA.index(name)].values
        return torch.stack([pixel(name) == known.index(value) for value in values]).any(0).float()

    def span(offset: Tensor, half: Tensor | float) -> Tensor:
        """Share of the pixel's extent that lies within `half` of the line where offset is 0."""
        room = 0.5 / size
        return ((offset + half).clamp(max=room) - (offset - half).clamp(min=-room)).clamp(min=0) * size

    def box(across: Tensor, down: Tensor, half_width: Tensor | float, half_height: Tensor | float) -> Tensor:
        return span(across, half_width) * span(down, half_height)

    def below(offset: Tensor) -> Tensor:
        return (offset * size + 0.5).clamp(0, 1)

    left, right, top, bottom = (pixel(name) for name in ("left", "right", "top", "bottom"))
    middle, half_front = (left + right) / 2, (right - left) / 2
    sun = torch.where(pixel("light") < 0, -1.0, 1.0)  # shadows fall to this side

    # Background: sky, two neighbours, the roof.
    sky = mix((0.45, 0.62, 0.85), (0.88, 0.9, 0.93), pixel("clouds"))
    sky = sky + (1 - sky) * ((y * 1.5).clamp(0, 1) * 0.6 + clouds * 0.5 * (1 - pixel("clouds"))).clamp(0, 1)
    yield _Layer(BACKGROUND, torch.ones_like(x), sky)
    for side, edge in ((-1.0, left), (1.0, right)):
        tint = pixels(draw.uniform(0.3, 0.75)[:, None] * draw.uniform(0.85, 1.1, 3))
        eaves = pixels(draw.uniform(0.0, 0.4))
        height = pixels(draw.uniform(0.14, 0.22))
        out = (x - edge) * side
        panes = stripes((y - eaves) / height - 0.2, 1 / (size * height), 0.6) * span(out - 0.055, 0.025)
        neighbour = (1 + 0.1 * mottle) * blend(tint, 0.25 * tint + 0.05, panes)
        yield _Layer(0, below(out) * below(y - eaves), neighbour * 0.85)
    roof = mix((0.3, 0.3, 0.33), (0.55, 0.3, 0.2), pixels(draw.chance(0.5)))
    ridge = pixels(draw.uniform(0.02, 0.14))
    slates = stripes(y * 60, 60 / size, 0.35)
    depth = y - (top - ridge)
    gable = span(x - middle, half_front - ridge / 2 + depth.clamp(min=0) / 2) * below(depth)
    yield _Layer(0, gable * below(top - y), roof * (1 - 0.25 * slates) * (1 + 0.15 * mottle))
    for _ in range(2):
        chimney = left + (right - left) * pixels(draw.uniform(0.1, 0.9))
        stack = box(x - chimney, y - (top - ridge), 0.016, 0.03) * pixels(draw.chance(0.6))
        yield _Layer(0, stack, pixels(draw.uniform(0.3, 0.55, 1)) * torch.ones_like(roof))

    # The grid of floors (0 is under the roof) and columns, and the frame of reference of the cell of every pixel.
    floors, columns = pixel("floors") + 3, pixel("columns") + 3
    band = pixels(draw.uniform(0.022, 0.04))  # the main cornice, under the roof
    storey = (bottom - top - band) / (floors - 1 + pixel("ground"))
    pitch = (right - left) / columns
    floor = ((y - top - band) / storey).floor().clamp(min=0).minimum(floors - 1)
    column = ((x - left) / pitch).floor().clamp(min=0).minimum(columns - 1)
    at_ground = (floor == floors - 1).float()
    even = 1 - 2 * (column % 2)
    cell = (floor * COLUMNS + column).long().flatten(1)

    def each(values: Tensor) -> Tensor:
        """Values per cell [n, CELLS] -> values per pixel."""
        return values.float().gather(1, cell).view_as(x)

    def each_floor(values: Tensor) -> Tensor:
        return each(values.repeat_interleave(COLUMNS, dim=1))

    lonely = (columns % 2 == 1) & (column == columns - 1)  # the last of an odd number has no partner
    across = x - left - (column + 0.5 + pixel("pairing") * even * ~lonely) * pitch
    floor_top = top + band + floor * storey
    tall = storey * (1 + (pixel("ground") - 1) * at_ground)
    half_width = torch.minimum(pixel("width") * pitch, pixel("height") * storey * 1.2) / 2
    half_height = pixel("height") * storey / 2 * each_floor(draw.uniform(0.85, 1.1, 6))
    down = y - floor_top - tall * 0.52

    # The wall.
    shade = pixel("brightness")
    warmth = pixel("warmth")
    plaster = mix((0.62, 0.55, 0.5), (0.93, 0.9, 0.85), shade) * mix((0.93, 1.0, 1.06), (1.04, 0.92, 0.7), warmth)
    brick = mix((0.42, 0.2, 0.15), (0.68, 0.4, 0.28), shade) * mix((1.0, 1.0, 1.0), (1.1, 1.05, 0.8), warmth)
    stone = mix((0.45, 0.44, 0.42), (0.78, 0.75, 0.7), shade) * mix((0.97, 1.0, 1.03), (1.06, 0.98, 0.82), warmth)
    trim = mix((0.6, 0.57, 0.52), (0.95, 0.93, 0.88), pixels(draw.uniform(0.2, 1.0)))
    is_brick, is_stone = option("material", "brick"), option("material", "stone")
    stone_like = (is_stone + at_ground * (1 - is_brick)).clamp(max=1)
    wall = blend(blend(plaster, brick, is_brick), stone, is_stone)
    wall = blend(wall, wall * 0.82, at_ground * pixels(draw.chance(0.6)))
    courses, joints, grains = _masonry(draw, x, y, size, rows=70, bond=3.0)
    wall_brick = wall * (1 + 0.2 * grains)
    wall_brick = blend(wall_brick, wall * 0.5 + 0.3, torch.maximum(courses, joints) * 0.55)
    courses, joints, grains = _masonry(draw, x, y, size, rows=28, bond=2.2)
    wall_stone = wall * (1 + 0.12 * grains) * (1 - 0.3 * torch.maximum(courses, joints))
    wall = blend(blend(wall, wall_brick, is_brick), wall_stone, stone_like)
    wall = wall * (1 + mottle * pixels(draw.uniform(0.06, 0.22)))
    stains = (1 - (y - floor_top) / tall).clamp(0, 1) * (mottle + 0.2).clamp(min=0)
    yield _Layer(WALL, box(x - middle, y - (top + bottom) / 2, half_front, (bottom - top) / 2), wall)
    inside = below(x - left) * below(right - x) * below(y - top) * below(bottom - y)
    yield _Layer(0, inside * stains * 0.25, 0.1)
    yield _Layer(0, inside * below(y - bottom + 0.025), wall * 0.6)  # the plinth

    # Pillars: at the two ends, or between all columns.
    between = x - left - ((x - left) / pitch).round() * pitch
    girth = pitch * 0.06
    ends = torch.where(x < middle, x - left - girth, x - right + girth)
    lane = torch.where(option("pillars", "columns") > 0, between, ends)
    raised = option("pillars", "ends", "columns") * inside * below(y - top - band)
    yield _Layer(0, raised * span(lane - sun * girth * 0.5, girth) * 0.35, 0.1)
    shaft = trim * (0.88 + 0.25 * (lane * -sun / girth).clamp(-1, 1)) * (1 + 0.1 * mottle)
    yield _Layer(PILLAR, raised * span(lane, girth), shaft)

    # Moldings: below the roof, above the ground floor, below every floor.
    seam = y - floor_top
    line = 0.009 + 0.004 * each_floor(draw.uniform(0.0, 1.0, 6))
    ledge = option("moldings", "every floor").maximum(option("moldings", "ground floor") * at_ground) * (floor > 0)
    yield _Layer(0, inside * ledge * span(seam - line * 2, line * 0.8) * 0.45, 0.05)
    yield _Layer(MOLDING, inside * ledge * span(seam - line, line), trim * (1.05 - 0.3 * below(seam - line * 1.2)))

    # Where the windows are; the ground floor may have shops, one cell of it has the door.
    entrance = (pixels(draw.integers(1 << 16)) % columns == column) * at_ground
    shop = option("shops", "yes") * at_ground * (1 - entrance)
    window = (1 - entrance) * (1 - shop) * inside
    opening = window * box(across, down, half_width, half_height)
    wide = option("balconies", "every") + option("balconies", "alternating") * (column % 2 == 0)
    wide = wide + option("balconies", "middle") * ((2 * column + 1 - columns).abs() <= 1)
    balcony = wide * each_floor(draw.chance(0.75, 6)) * (1 - at_ground) * inside

    # Decorated panels, in the spandrel below a window or on the wall between two.
    panel_down = down - half_height - storey * 0.13
    panel = window * (1 - balcony) * option("deco", "below") * (1 - at_ground)
    for label, margin, colour in ((DECO, 0.0, trim * 0.92), (0, 0.006, trim * 0.7), (0, 0.012, trim * 0.98)):
        cover = box(across, panel_down, half_width * 0.9 - margin, storey * 0.06 - margin)
        yield _Layer(label, panel * cover, colour * (1 + 0.2 * mottle))
    gap = ((between.abs() < pitch / 4) & ((x - middle).abs() < half_front - pitch / 2)).float()  # not at the ends
    medal = option("deco", "between") * (1 - option("pillars", "columns")) * (1 - at_ground) * (floor % 2 == 0) * gap
    room = (pitch - 2 * half_width) * 0.2
    for label, margin, colour in ((DECO, 0.0, trim * 0.95), (0, 0.006, trim * 0.65), (0, 0.012, trim)):
        yield _Layer(label, medal * box(between, down, room - margin, half_height * 0.7 - margin), colour)

    # Windows: surround, frame, glass, mullions; the reveal throws a shadow on the glass.
    yield _Layer(0, window * box(across, down, half_width + 0.008, half_height + 0.008) * 0.7, trim * 0.95)
    brown = mix((0.3, 0.19, 0.12), (0.4, 0.28, 0.2), pixels(draw.uniform(0.0, 1.0)))
    frame = blend(torch.full_like(brown, 0.9), brown, option("frames", "brown"))
    yield _Layer(WINDOW, opening, frame * 0.92)
    border = 0.006
    pane = box(across, down, half_width - border, half_height - border) * window
    s, t = across / half_width, down / half_height  # -1 to 1 within the window
    gleam = (1 - ((s + t * 0.8 + each(draw.uniform(-1.5, 1.5, CELLS))).abs() * 1.6)).clamp(0, 1)
    mirror = each(draw.uniform(0.05, 0.55, CELLS)) * (0.9 - 0.5 * t) + gleam * each(draw.uniform(0.0, 0.4, CELLS))
    glass = blend(mix((0.05, 0.07, 0.1), (0.16, 0.17, 0.18), each(draw.uniform(0.0, 1.0, CELLS))), sky * 0.85, mirror)
    drape = each(draw.uniform(0.0, 0.9, CELLS) * draw.chance(0.6, CELLS))
    folds = 0.85 + 0.15 * stripes(s * 4, 4 / (half_width * size), 0.5)
    curtain = below((s.abs() - 1 + drape * 0.8) * half_width) * 0.55
    glass = blend(glass, mix((0.7, 0.66, 0.58), (0.85, 0.85, 0.84), shade) * folds, curtain * (1 - 0.6 * mirror))
    yield _Layer(0, pane, glass)
    count = pixel("panes") + 1
    mullion = (s + 1) / 2 * count
    mullion = (mullion - mullion.round()) * 2 * half_width / count
    bars = span(mullion, 0.0035).maximum(span(down + half_height * 0.4, 0.0035))
    yield _Layer(0, pane * bars, frame * 0.9)
    yield _Layer(0, pane * span(down + half_height - border - 0.006, 0.006) * 0.5, 0.02)
    yield _Layer(0, pane * span(across + sun * (half_width - border - 0.004), 0.004) * 0.4, 0.02)

    # Blinds: rollers let down to different heights, or pairs of shutters beside the window, some of them closed.
    paint = pixels(draw.uniform(0.15, 0.6)[:, None] * draw.uniform(0.5, 1.1, 3))
    slats = 1 - 0.3 * stripes(y * 90, 90 / size, 0.4)
    drop = each(draw.uniform(0.3, 1.0, CELLS) * draw.chance(0.45, CELLS)) * option("blinds", "rollers")
    roller = box(across, down + half_height * (1 - drop), half_width - border * 0.5, half_height * drop)
    pale = mix((0.5, 0.45, 0.36), (0.85, 0.82, 0.74), pixels(draw.uniform(0.0, 1.0)))
    yield _Layer(BLIND, window * roller, pale * slats)
    folded = window * option("blinds", "shutters") * (1 - at_ground)
    closed = each(draw.chance(0.12, CELLS))
    leaf = torch.minimum(half_width * 0.5, (pitch * (0.5 - pixel("pairing").abs()) - half_width) * 0.42)
    leaf = blend(leaf, half_width * 0.5, closed)
    aside = across.abs() - blend(half_width + leaf, half_width - leaf, closed)
    yield _Layer(0, folded * box(aside - 0.004 * sun * across.sign(), down - 0.006, leaf, half_height) * 0.4, 0.03)
    yield _Layer(BLIND, folded * box(aside, down, leaf, half_height), paint * slats)
    rim = box(aside, down, leaf, half_height) - box(aside, down, leaf - 0.005, half_height - 0.006)
    yield _Layer(0, folded * rim, paint * 1.15)

    # Sills and the small cornices above windows, each with its shadow.
    for label, name, place, reach in (
        (SILL, "sills", down - half_height - 0.008, 1.12),
        (CORNICE, "cornices", down + half_height + 0.02, 1.2),
    ):
        there = window * option(name, "yes") * (each_floor(draw.chance(0.8, 6)) if label == CORNICE else 1.0)
        thick = 0.008 if label == SILL else 0.011
        yield _Layer(0, there * box(across - 0.005 * sun, place - thick * 1.5, half_width * reach, thick) * 0.45, 0.03)
        shaded = trim * (1.08 - 0.25 * below(place))
        yield _Layer(label, there * box(across, place, half_width * reach, thick), shaded)

    # Doors and shops.
    wood = mix((0.22, 0.12, 0.07), (0.2, 0.3, 0.28), pixels(draw.uniform(0.0, 1.0)))
    door_half, door_height = torch.minimum(pitch * 0.3, storey * 0.35), tall * 0.38
    down_door = y - (floor_top + tall) + door_height
    here = entrance * inside
    yield _Layer(0, here * box(across, down_door + 0.006, door_half + 0.012, door_height + 0.012), trim * 0.9)
    yield _Layer(DOOR, here * box(across, down_door, door_half, door_height), wood)
    leaf_s, leaf_t = across.abs() - door_half * 0.48, down_door / door_height
    for level, extent in ((-0.12, 0.28), (0.58, 0.3)):
        for margin, colour in ((0.0, wood * 0.6), (0.005, wood * 1.25)):
            reach_x, reach_y = door_half * 0.34 - margin, door_height * extent - margin
            yield _Layer(0, here * box(leaf_s, (leaf_t - level) * door_height, reach_x, reach_y), colour)
    yield _Layer(0, here * box(across, (leaf_t + 0.72) * door_height, door_half * 0.85, door_height * 0.2), sky * 0.45)
    yield _Layer(0, here * box(across, down_door + door_height - 0.006, door_half, 0.008) * 0.5, 0.02)

    shop_half, shop_height = pitch * 0.44, tall * 0.33
    down_shop = y - (floor_top + tall) + shop_height + tall * 0.06
    here = shop * inside
    fascia = pixels(draw.uniform(0.1, 0.7)[:, None] * draw.uniform(0.3, 1.3, 3))
    yield _Layer(SHOP, here * box(across, down_shop, shop_half, shop_height), fascia * 0.5)
    s, t = across / shop_half, down_shop / shop_height
    goods = (mottle * 2 + 0.6 * stripes(s * 3 + mottle, 0.1, 0.5) + t * 0.5).clamp(0, 1)
    glow = each(draw.uniform(0.1, 0.7, CELLS))
    display = mix((0.06, 0.06, 0.07), (0.9, 0.75, 0.5), goods * glow)
    display = blend(display, sky * 0.8, (1 - ((s + t * 0.6).abs() * 1.5)).clamp(0, 1) * 0.3)
    yield _Layer(0, here * box(across, down_shop, shop_half - 0.007, shop_height - 0.008), display)
    yield _Layer(0, here * box(across, down_shop, 0.004, shop_height - 0.008), fascia * 0.5)
    sign = y - (floor_top + tall) + 2 * shop_height + tall * 0.12
    yield _Layer(0, here * box(across, sign + tall * 0.07, pitch * 0.49, tall * 0.04) * 0.45, 0.03)
    yield _Layer(SHOP, here * box(across, sign, pitch * 0.49, tall * 0.075), fascia)
    letters = stripes(across / pitch * 14 + mottle * 0.5, 14 / (pitch * size), 0.55)
    yield _Layer(0, here * letters * box(across, sign, pitch * 0.3, tall * 0.03), fascia * 0.3 + 0.65)

    # Balconies stand in front of their window: a slab on which bars or a parapet stand.
    railing = torch.minimum(half_width * 1.5, pitch * (0.48 - pixel("pairing").abs()))
    rail = storey * 0.15
    down_rail = down - half_height + rail * 0.7
    yield _Layer(0, balcony * box(across - 0.01 * sun, down_rail - rail * 1.5, railing, rail * 0.6) * 0.4, 0.03)
    frontage = balcony * box(across, down_rail, railing, rail)
    solid = pixels(draw.chance(0.35))
    bars = stripes(across / 0.016 + 0.2, 1 / (0.016 * size), 0.4)
    bars = bars.maximum(span(down_rail + rail - 0.005, 0.005))
    iron = mix((0.08, 0.08, 0.09), (0.35, 0.36, 0.36), pixels(draw.uniform(0.0, 1.0)))
    parapet = trim * (1 - 0.15 * box(across, down_rail, railing - 0.01, rail - 0.012)) * (1 + 0.15 * mottle)
    yield _Layer(BALCONY, frontage, parapet * solid + 0.05 * (1 - solid), 0.25 + 0.75 * solid)
    yield _Layer(0, frontage * bars * (1 - solid), iron)
    yield _Layer(BALCONY, balcony * box(across, down_rail - rail + 0.007, railing * 1.04, 0.009), trim * 0.95)

    # The main cornice, and the shadow that it throws.
    gloom = ((1 - (y - top - band) / 0.05) * below(y - top)).clamp(0, 1) * inside
    yield _Layer(0, gloom * 0.45, 0.03)
    crown = box(x - middle, y - top - band / 2, half_front + 0.006, band / 2)
    dentils = stripes(x * 50, 50 / size, 0.5) * below(y - top - band * 0.6)
    yield _Layer(MOLDING, crown, trim * (1 - 0.45 * dentils) * (1.05 - 0.2 * below(y - top - band * 0.35)))

    # The street.
    street = mix((0.3, 0.3, 0.31), (0.55, 0.53, 0.5), pixels(draw.uniform(0.0, 1.0))) * (1 + 0.2 * mottle)
    yield _Layer(BACKGROUND, below(y - bottom), street * (1 - 0.4 * below(y - bottom - 0.025)))


def plane(p: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Where on the front every pixel looks, float32 [n, 1, size, size] each, about [0, 1]: a weak perspective."""
    axis = (torch.arange(size, dtype=torch.float32, device=p["tilt"].device) + 0.5) / size - 0.5
    across, down = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    depth = 1 + down * pixels(p["tilt"]) + across * pixels(p["turn"])
    return across / depth + 0.5, down / depth + 0.5


def _masonry(draw: Draws, x: Tensor, y: Tensor, size: int, rows: int, bond: float) -> tuple[Tensor, Tensor, Tensor]:
    """Bed joints, head joints and shades in [-1, 1] of a wall of blocks, `bond` times as long as high."""
    row = (y * rows).floor()
    along = x * rows / bond + 0.5 * (row % 2)
    block = (row * 131 + along.floor()).long().remainder(1024)
    shades = draw.uniform(-1.0, 1.0, 1024).float().gather(1, block.flatten(1)).view_as(x)
    return stripes(y * rows, rows / size, 0.16), stripes(along, rows / bond / size, 0.16 / bond), shades
