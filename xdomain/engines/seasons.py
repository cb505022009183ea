"""Landscapes in summer and in winter: the same place twice, known exactly.

Sky, mountains, hills, a lake or a river, houses and trees stand at the same pixels in both seasons: every layer has one
coverage and two paints. Summer has green hills and crowns, blue water and a deep sky; winter has snow on the ground, on
roofs and on conifers, bare crowns, ice, a pale sky and little contrast. Colours vary with the place and the hour, so no
table of colours turns one season into the other. Neither picture depends on the batch: see `xdomain.engines.drawing`.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from xdomain.engines.drawing import Draws, blend, mix, pixels, soft_noise, stripes
from xdomain.engines.schema import Parameter, Schema
from xdomain.engines.shapes import ellipse, smooth, wave

VERSION = 1
"""Increase it when any picture changes: data drawn by another version are drawn again."""

Season = Literal["summer", "winter"]
Colour = tuple[float, float, float]

SCHEMA = Schema(
    [
        Parameter("horizon", "continuous", 0.3, 0.44, group="layout"),
        Parameter("peaks", "continuous", 0.05, 0.24, group="layout"),  # height of the mountains above the horizon
        Parameter("relief", "continuous", 0.015, 0.05, group="layout"),  # of the hills
        Parameter("forest", "continuous", -0.5, 0.6, group="layout"),  # how much of the far hill is wooded
        Parameter("water", "choice", values=("lake", "river"), group="layout"),
        Parameter("place", "continuous", -1.0, 1.0, group="layout"),  # of the water, left to right
        Parameter("extent", "continuous", 0.0, 1.0, group="layout"),  # of the water
        Parameter("houses", "choice", values=("1", "2", "3"), group="layout"),
        Parameter("trees", "choice", values=("4", "5", "6", "7"), group="layout"),
        Parameter("conifers", "continuous", 0.0, 1.0, group="layout"),  # share of the trees
        Parameter("hour", "continuous", 0.0, 1.0, group="light"),  # noon to dusk
        Parameter("sun", "choice", values=("left", "right"), group="light"),
        Parameter("clouds", "continuous", -0.35, 0.35, group="light"),
        Parameter("hue", "continuous", 0.0, 1.0, group="light"),  # of the grass: yellowish to bluish
        Parameter("variation", "continuous", 0.0, 2.0**23, group="light"),  # hashed: all that differs within a scene
    ]
)
"""The parameters. Lengths are shares of the picture or of what the comment says; y points down."""

CHUNK = 32  # images drawn at a time: bounds the memory
CROWN = ((0.0, 0.7, 0.26), (-0.17, 0.55, 0.2), (0.18, 0.57, 0.2), (-0.09, 0.8, 0.17), (0.1, 0.82, 0.15))
"""Place and radius of the balls of leaves, as shares of the height of the tree."""

TREES = 7  # the most of any scene; three of them stand on the far side of the water


def draw_parameters(indices: Tensor, seed: int) -> Tensor:
    """Uniform parameters u, float32 [n, 15]; row i is a pure function of (seed, indices[i])."""
    return SCHEMA.draw(Draws(indices, seed))


def render(u: Tensor, size: int = 128, season: Season = "summer") -> Tensor:
    """Draws landscapes: parameters u [n, 15] -> uint8 [n, 3, size, size], RGB.

    Raises:
        ValueError: for another season than ``summer`` and ``winter``.
    """
    if season not in ("summer", "winter"):
        raise ValueError(f"there is no season {season!r}, only summer and winter")
    images = torch.empty(len(u), 3, size, size, dtype=torch.uint8, device=u.device)
    for start in range(0, len(u), CHUNK):
        images[start : start + CHUNK] = _picture(_Scene(u[start : start + CHUNK], size, season == "winter"))
    return images


class _Layer(NamedTuple):
    """One object in front of all earlier ones.

    Attributes:
        coverage: share of every pixel that it takes, [n, 1, s, s] in [0, 1]; the same in both seasons.
        colour: in [0, 1], broadcasts to [n, 3, s, s].
        opacity: in [0, 1], broadcasts to [n, 1, s, s].
    """

    coverage: Tensor
    colour: Tensor
    opacity: Tensor | float = 1.0


class _Scene:
    """What all parts of a picture share: parameters, random values, coordinates and textures.

    The parts draw their random values in the same order in both seasons.

    Attributes:
        p: the parameters by name, float64 [n].
        x: of the pixel centres, float32 [1, 1, s, s] in [0, 1].
        y: likewise.
        dusk: 0 at noon to 1, [n, 1, 1, 1] like all that follows but the textures.
        sun: -1 if it stands left, 1 if right.
        ground: where the near meadow begins.
        far_shore: the far end of a lake.
        near_shore: its near end.
        coarse: texture in [-1, 1], [n, 1, s, s].
        grain: a finer one.
    """

    def __init__(self, u: Tensor, size: int, winter: bool) -> None:
        self.p = {name: column.double() for name, column in zip(SCHEMA.names, u.unbind(1), strict=True)}
        self.size, self.winter = size, winter
        self.draw = Draws(self.p["variation"].long(), seed=0)
        axis = (torch.arange(size, dtype=torch.float32, device=u.device) + 0.5) / size
        self.x, self.y = (plane[None, None] for plane in torch.meshgrid(axis, axis, indexing="xy"))
        self.horizon, self.hue = self.pixel("horizon"), self.pixel("hue")
        self.dusk = self.pixel("hour").square()
        self.sun = self.pixel("sun") * 2 - 1  # shadows fall to the other side
        self.ground = self.horizon + 0.1
        self.far_shore = self.horizon + 0.16
        self.near_shore = self.far_shore + 0.1 + 0.06 * self.pixel("extent")
        self.coarse = self.noise(5) * 0.6 + self.noise(13) * 0.4
        self.grain = self.noise(19) * 0.5 + self.noise(41) * 0.3 + self.noise(83) * 0.3

    def pixel(self, name: str) -> Tensor:
        return pixels(self.p[name])

    def noise(self, knots: int) -> Tensor:
        return soft_noise(self.draw, knots, self.size)

    def profile(self, knots: int) -> Tensor:
        """Jagged heights in [-1, 1] along the picture, [n, 1, 1, s]."""
        ends = self.draw.uniform(-1.0, 1.0, 1, 1, knots).float()
        place = self.x[:, :, :1] * (knots - 1)
        left = place.floor().clamp(max=knots - 2).long()
        low, high = (ends.gather(3, (left + step).expand(len(ends), -1, -1, -1)) for step in (0, 1))
        return blend(low, high, place - left)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return pixels(self.draw.uniform(low, high, *shape))

    def chance(self, probability: float) -> Tensor:
        return pixels(self.draw.chance(probability))

    def above(self, offset: Tensor) -> Tensor:
        """Share of the pixel that lies on the positive side of the line where the offset is 0."""
        return (offset * self.size + 0.5).clamp(0, 1)

    def span(self, offset: Tensor, half: Tensor | float) -> Tensor:
        """Share of the pixel's extent that lies within `half` of the line where the offset is 0."""
        room = 0.5 / self.size
        return ((offset + half).clamp(max=room) - (offset - half).clamp(min=-room)).clamp(min=0) * self.size

    def paint(self, summer: Tensor, winter: Tensor) -> Tensor:
        """What the season makes of a place."""
        return winter if self.winter else summer

    def grass(self, shade: Tensor) -> Tensor:
        """Green from dark (shade 0) to light (1), with the hue of the scene."""
        dark = mix((0.17, 0.3, 0.08), (0.08, 0.3, 0.16), self.hue)
        light = mix((0.62, 0.68, 0.25), (0.4, 0.68, 0.32), self.hue)
        return blend(dark, light, shade.clamp(0, 1))

    def snow(self, shade: Tensor) -> Tensor:
        """White from bluish shadow (shade 0) to light (1)."""
        return mix((0.6, 0.67, 0.78), (0.95, 0.96, 0.97), shade.clamp(0, 1))

    def flat(self, colour: Colour) -> Tensor:
        return torch.tensor(colour, device=self.x.device).view(1, 3, 1, 1)


def _picture(scene: _Scene) -> Tensor:
    """The layers over each other, in the light of the hour and behind the lens of the camera."""
    picture = torch.zeros(len(scene.hue), 3, scene.size, scene.size, device=scene.hue.device)
    for layer in _layers(scene):
        picture = picture + (layer.colour - picture) * (layer.coverage * layer.opacity)
    picture = picture * scene.paint(
        mix((1.02, 1.0, 0.96), (1.02, 0.8, 0.68), scene.dusk), mix((0.97, 0.98, 1.0), (0.84, 0.78, 0.83), scene.dusk)
    )
    aside = (scene.x - 0.5) * scene.sun
    picture = picture * (1 + aside * scene.paint(scene.uniform(0.05, 0.25), scene.uniform(0.0, 0.08)))
    if scene.winter:  # low contrast, little colour
        grey = (picture[:, :1] + picture[:, 1:2] + picture[:, 2:]) / 3
        picture = blend(blend(picture, grey, 0.25), scene.flat((0.8, 0.82, 0.85)), 0.08)
    noise = scene.draw.noise(3, scene.size, scene.size)
    picture = picture * scene.uniform(0.92, 1.06) + noise * scene.uniform(0.006, 0.016)
    return (picture * 255).round().clamp(0, 255).byte()


def _layers(scene: _Scene) -> Iterator[_Layer]:
    """Everything in the picture, from back to front."""
    yield from _sky(scene)
    yield from _mountains(scene)
    yield from _hills(scene)
    yield from _meadow(scene)
    yield from _water(scene)
    depth = torch.cat(
        [scene.draw.uniform(0.0, 0.07, 3).sort(1)[0], scene.draw.uniform(0.0, 1.0, TREES - 3).sort(1)[0]], 1
    )
    yield from (layer for i in range(3) for layer in _tree(scene, i, pixels(depth[:, i])))
    yield from (layer for i in range(3) for layer in _house(scene, i))
    yield from (layer for i in range(3, TREES) for layer in _tree(scene, i, pixels(depth[:, i])))


def _sky(scene: _Scene) -> Iterator[_Layer]:
    down = (scene.y / scene.horizon).clamp(0, 1)
    zenith = scene.paint(
        mix((0.12, 0.36, 0.76), (0.2, 0.28, 0.55), scene.dusk), mix((0.62, 0.68, 0.76), (0.56, 0.58, 0.66), scene.dusk)
    )
    haze = scene.paint(
        mix((0.7, 0.84, 0.95), (1.0, 0.74, 0.45), scene.dusk), mix((0.84, 0.87, 0.9), (0.93, 0.82, 0.76), scene.dusk)
    )
    everywhere = torch.ones_like(scene.coarse)
    yield _Layer(everywhere, blend(zenith, haze, smooth(down, 0.0, 1.0)))
    wide = scene.noise(6) * 0.4 + scene.noise(10) * 0.4 + scene.noise(17) * 0.3 + scene.grain * 0.35
    shape = smooth(wide + scene.pixel("clouds"), 0.0, 0.35)
    light = (0.9 + 0.15 * wide).clamp(0, 1)
    cloud = scene.paint(
        mix((0.7, 0.74, 0.8), (1.0, 1.0, 1.0), light), mix((0.66, 0.69, 0.73), (0.86, 0.87, 0.89), light)
    )
    yield _Layer(everywhere, cloud, shape * scene.paint(1.1 - down, 1.0 - 0.7 * down).clamp(0, 0.9))


def _mountains(scene: _Scene) -> Iterator[_Layer]:
    for depth in (1.0, 0.0):  # the farther range is higher and paler
        rough = scene.profile(6) * 0.5 + scene.profile(13) * 0.25 + scene.profile(31) * 0.12
        height = scene.pixel("peaks") * (0.55 + 0.25 * depth + rough)
        up = scene.y - (scene.horizon - height)  # below the ridge
        facet = smooth(scene.noise(11) + scene.noise(23) * 0.7 + (scene.coarse * scene.sun), -0.4, 0.4)
        low = (up / 0.22).clamp(0, 1)
        rock = mix((0.3, 0.35, 0.42), (0.58, 0.58, 0.56), facet)
        summer = blend(rock, scene.grass(0.15 + 0.4 * facet) * 0.9, smooth(low + 0.2 * scene.grain, 0.1, 0.5))
        cap = smooth(height - up * 2.2 + 0.03 * scene.grain, 0.15, 0.2)  # high mountains keep their snow
        summer = blend(summer, scene.snow(0.3 + 0.7 * facet), cap)
        bare = smooth(scene.grain - facet * 0.5 + low, 0.3, 0.9) * 0.6
        winter = blend(scene.snow(0.15 + 0.8 * facet), rock * 0.9, bare)
        air = scene.paint(scene.flat((0.6, 0.74, 0.88)), scene.flat((0.78, 0.81, 0.86)))
        yield _Layer(scene.above(up), blend(scene.paint(summer, winter), air, 0.25 + 0.3 * depth))


def _hills(scene: _Scene) -> Iterator[_Layer]:
    for number, base in enumerate((0.0, 0.045)):
        bend = wave(scene.x * scene.uniform(0.5, 1.1) + scene.uniform(0.0, 1.0))
        ridge = (
            scene.horizon + base - scene.pixel("relief") * (bend + 0.5 * wave(scene.x * 2.3 + scene.uniform(0.0, 1.0)))
        )
        up = scene.y - ridge
        light = (0.75 - up * 4 + 0.2 * scene.grain + 0.25 * bend * scene.sun).clamp(0, 1)
        field = smooth(scene.noise(5) + 0.3 * scene.coarse, 0.1, 0.3) * scene.uniform(0.0, 0.8)
        summer = blend(scene.grass(0.15 + 0.65 * light), mix((0.6, 0.52, 0.2), (0.85, 0.75, 0.4), light), field)
        winter = scene.snow(0.1 + 0.85 * light) - 0.08 * field
        air = scene.paint(scene.flat((0.62, 0.76, 0.88)), scene.flat((0.8, 0.83, 0.87)))
        yield _Layer(scene.above(up), blend(scene.paint(summer, winter), air, 0.2 - 0.1 * number))
        if number:
            continue
        # Woods: a band of tree tops along the ridge, broken where the noise says so.
        tops = scene.profile(61) * 0.5 + 0.5
        there = smooth(scene.profile(7) + scene.pixel("forest"), 0.0, 0.3)
        height = (0.012 + 0.022 * tops) * there
        wood = scene.above(up + height) * scene.above(0.02 * there - up) * smooth(there, 0.0, 0.05)
        shade = 0.4 + 0.3 * scene.grain + (up + height) * -6
        dusted = blend(
            mix((0.2, 0.24, 0.25), (0.32, 0.35, 0.36), shade), scene.snow(shade + 0.4), smooth(shade, 0.3, 0.7) * 0.7
        )
        yield _Layer(wood, scene.paint(scene.grass(0.45 * shade) * 0.75, dusted))


def _meadow(scene: _Scene) -> Iterator[_Layer]:
    up = scene.y - scene.ground - 0.012 * wave(scene.x * 0.8 + scene.uniform(0.0, 1.0))
    light = 0.62 + 0.35 * scene.coarse + 0.3 * scene.grain - 0.35 * up
    flowers = smooth(scene.noise(47) + 0.6 * scene.coarse, 0.75, 0.95) * scene.chance(0.5)
    bloom = mix((0.95, 0.85, 0.25), (0.9, 0.6, 0.75), scene.uniform(0.0, 1.0))
    summer = blend(scene.grass(light), bloom, flowers * 0.7)
    tufts = smooth(scene.grain + 0.4 * scene.coarse, 0.45, 0.75) * scene.uniform(0.0, 0.5)
    winter = blend(scene.snow(0.05 + light * 0.9), scene.flat((0.52, 0.48, 0.4)), tufts)
    yield _Layer(scene.above(up), scene.paint(summer, winter))


def _water(scene: _Scene) -> Iterator[_Layer]:
    """A lake across the middle, or a river from the hills to the bottom of the picture."""
    place, extent = scene.pixel("place"), scene.pixel("extent")
    wobble = 0.012 * wave(scene.x * 2.7 + scene.y * 3 + scene.uniform(0.0, 1.0)) + 0.006 * scene.coarse
    middle, high = (scene.far_shore + scene.near_shore) / 2, (scene.near_shore - scene.far_shore) / 2
    lake = wobble * 0.7 - ellipse(scene.x - 0.5 - 0.3 * place, scene.y - middle, 0.32 + 0.3 * extent, high)
    depth = ((scene.y - scene.ground) / (1 - scene.ground)).clamp(0, 1)
    course = (
        0.5 + place * (0.25 - 0.35 * depth) + (0.1 - 0.06 * depth) * wave(depth.sqrt() * 1.4 + scene.uniform(0.0, 1.0))
    )
    width = 0.008 + (0.1 + 0.06 * extent) * depth
    river = torch.minimum(width - (scene.x - course).abs() + wobble * depth, (scene.y - scene.ground - 0.012) * 2)
    inside = torch.where(scene.pixel("water") == 0, lake, river)
    bank = scene.paint(scene.grass(0.1 * torch.ones_like(depth)) + 0.12, scene.snow(0.2 + 0.2 * scene.grain))
    yield _Layer(scene.above(inside + 0.01), bank, 0.6)
    far = ((scene.y - scene.far_shore) / 0.3).clamp(0, 1)
    ripple = scene.grain + 0.6 * stripes(scene.y * 34 + scene.coarse, 34 / scene.size, 0.4) - 0.25
    deep = mix((0.08, 0.27, 0.52), (0.14, 0.32, 0.6), scene.dusk)
    mirror = mix((0.45, 0.66, 0.88), (0.6, 0.64, 0.85), scene.dusk)
    summer = blend(mirror, deep, (0.3 + 0.7 * far - 0.3 * ripple).clamp(0, 1))
    drift = smooth(scene.coarse + 0.5 * scene.grain, 0.1, 0.5)
    ice = mix((0.42, 0.53, 0.6), (0.62, 0.7, 0.75), (0.6 + 0.4 * scene.grain - 0.5 * far).clamp(0, 1))
    winter = blend(ice, scene.snow(0.8 + 0.2 * scene.grain), drift * 0.75)
    yield _Layer(scene.above(inside), scene.paint(summer, winter))


def _house(scene: _Scene, number: int) -> Iterator[_Layer]:
    """Two houses on the far side of the water and one on the near side."""
    there = (scene.pixel("houses") >= number).float()
    if number < 2:
        place = scene.uniform(0.1, 0.42) + 0.48 * ((scene.pixel("place") < 0) == (number == 0)).float()
        foot = scene.far_shore + scene.uniform(-0.015, 0.01)
        scale = (foot - scene.horizon) * scene.uniform(0.9, 1.25)
    else:
        side = torch.where(scene.chance(0.5) > 0, 1.0, 0.0)
        place = 0.12 + 0.76 * side + scene.uniform(-0.06, 0.06)
        foot = scene.near_shore + scene.uniform(0.06, 0.14)
        scale = (foot - scene.horizon) * scene.uniform(0.55, 0.7)
    half, wall, roof = scale * scene.uniform(0.5, 0.75), scale * 0.55, scale * scene.uniform(0.35, 0.55)
    gable = scene.chance(0.4)  # seen from the front: the roof is a triangle; from the side: a trapezium
    across, up = scene.x - place, foot - scene.y
    body = there * scene.span(across, half) * scene.above(up) * scene.above(wall - up)
    lit = 1 + 0.12 * scene.sun * (across / half).clamp(-1, 1)
    plaster = mix((0.93, 0.9, 0.82), (0.85, 0.68, 0.45), scene.uniform(0.0, 1.0))
    timber = mix((0.42, 0.26, 0.17), (0.66, 0.22, 0.16), scene.uniform(0.0, 1.0))
    paint = blend(plaster, timber, scene.chance(0.45)) * (lit + 0.06 * scene.grain)
    yield _Layer(
        there * scene.span(across + scene.sun * half * 0.4, half) * scene.span(up, scale * 0.06),
        scene.flat((0.08, 0.1, 0.12)),
        0.35,
    )
    yield _Layer(body, scene.paint(paint, paint * 0.85 + 0.05))
    glow = scene.uniform(0.2, 1.0)
    glass = scene.paint(mix((0.12, 0.16, 0.22), (0.3, 0.38, 0.46), glow), mix((0.3, 0.26, 0.2), (1.0, 0.8, 0.42), glow))
    for offset in (-0.5, 0.5):
        pane = scene.span(across - offset * half, half * 0.17) * scene.span(up - wall * 0.58, wall * 0.2)
        yield _Layer(body * pane, glass)
    yield _Layer(body * scene.span(across, half * 0.14) * scene.above(wall * 0.6 - up), scene.flat((0.24, 0.15, 0.1)))
    stack = (
        scene.span(across - half * 0.45, half * 0.09) * scene.above(up - wall) * scene.above(wall + roof * 1.05 - up)
    )
    yield _Layer(there * stack, scene.flat((0.45, 0.27, 0.22)))
    share = ((up - wall) / roof).clamp(0, 1)  # 0 at the eaves, 1 at the ridge
    width = (half * 1.15) * (1 - share * (0.35 + 0.65 * gable))
    tiles = mix((0.62, 0.24, 0.16), (0.34, 0.36, 0.42), scene.uniform(0.0, 1.0))
    tiles = tiles * (lit + 0.1 * scene.grain - 0.12 * stripes(share * 4, 4 / (roof * scene.size), 0.3))
    slope = there * scene.span(across, width) * scene.above(up - wall) * scene.above(wall + roof - up)
    cover = scene.snow(0.75 + 0.3 * (lit - 1) + 0.15 * scene.grain + 0.2 * share)
    yield _Layer(slope, scene.paint(tiles, blend(tiles * 0.6, cover, smooth(share + 0.08 * scene.coarse, 0.12, 0.26))))
    eaves = there * scene.span(across, half * 1.15) * scene.span(up - wall, scale * 0.03)
    yield _Layer(eaves, scene.flat((0.2, 0.16, 0.14)), 0.7)


def _tree(scene: _Scene, number: int, depth: Tensor) -> Iterator[_Layer]:
    """A conifer or a broad crown: three on the far side of the water, the others near, left and right of the middle."""
    there = (number < scene.pixel("trees") + 4).float()
    if number < 3:
        foot = scene.far_shore - 0.07 + depth
        place, tall = scene.uniform(0.03, 0.97), (foot - scene.horizon) * scene.uniform(0.9, 1.4)
    else:
        foot = scene.near_shore + 0.03 + depth * (0.94 - scene.near_shore)
        left = scene.chance(0.5) if number > 4 else float(number == 3)
        place = scene.uniform(0.02, 0.26) + 0.72 * (1 - left)
        tall = (foot - scene.horizon) * scene.uniform(0.75, 1.1)
    across, up = scene.x - place, foot - scene.y
    tint, leaning = scene.uniform(0.0, 1.0), scene.uniform(-0.08, 0.08)
    shadow = scene.above(0.012 + 0.2 * tall * 0.16 - ((across + scene.sun * tall * 0.2) * 0.16).abs() - up.abs())
    yield _Layer(there * shadow, scene.paint(scene.flat((0.05, 0.12, 0.08)), scene.flat((0.5, 0.57, 0.68))), 0.45)
    conifer = (scene.uniform(0.0, 1.0) < scene.pixel("conifers")).float()
    yield from _conifer(scene, there * conifer, across, up, tall, tint)
    yield from _broadleaf(scene, there * (1 - conifer), across - up * leaning, up, tall, tint)


def _conifer(scene: _Scene, there: Tensor, across: Tensor, up: Tensor, tall: Tensor, tint: Tensor) -> Iterator[_Layer]:
    bark = scene.flat((0.26, 0.19, 0.14))
    yield _Layer(there * scene.span(across, tall * 0.025) * scene.above(up) * scene.above(tall * 0.3 - up), bark)
    down = 1 - (up - tall * 0.12) / (tall * 0.88)  # 0 at the top, 1 where the lowest branches end
    tier = down * 4 - (down * 4).floor()
    half = tall * (0.02 + 0.15 * down.clamp(0, 1) + 0.075 * tier)
    body = there * scene.span(across, half) * scene.above(up - tall * 0.12) * scene.above(tall - up)
    light = (0.45 + 0.35 * scene.sun * across / half - 0.35 * (1 - tier) + 0.35 * scene.grain).clamp(0, 1)
    needles = mix((0.04, 0.14, 0.1), (0.2, 0.42, 0.2), light) * mix((1.0, 1.0, 1.0), (1.25, 1.0, 0.8), tint)
    laden = smooth(tier + 0.4 * scene.grain - 0.25 * scene.sun * across / half, 0.7, 0.3)
    snowy = blend(needles * 0.75 + 0.05, scene.snow(0.35 + 0.6 * light + 0.2 * (1 - tier)), laden * 0.9)
    yield _Layer(body, scene.paint(needles, snowy))


def _broadleaf(
    scene: _Scene, there: Tensor, across: Tensor, up: Tensor, tall: Tensor, tint: Tensor
) -> Iterator[_Layer]:
    """In winter the crown is bare: a haze of twigs, branches before it, and snow on them."""
    bark = mix((0.28, 0.2, 0.14), (0.4, 0.36, 0.32), tint)
    girth = tall * (0.045 - 0.03 * (up / tall).clamp(0, 1))
    yield _Layer(there * scene.span(across, girth) * scene.above(up) * scene.above(tall * 0.75 - up), bark)
    balls = []
    for x, y, radius in CROWN:
        aside, high = tall * (scene.uniform(-0.04, 0.04) + x), tall * (scene.uniform(-0.03, 0.03) + y)
        reach = tall * radius * scene.uniform(0.85, 1.1)
        balls.append(ellipse(across - aside, up - high, reach, reach))
    edge = torch.stack(balls).amin(0)
    crown = there * scene.above(-edge - tall * 0.03 * (scene.grain + 0.5))
    light = (0.5 + 1.1 * (up / tall - 0.66) + 0.9 * scene.sun * across / tall + 0.45 * scene.grain).clamp(0, 1)
    green = mix((0.06, 0.19, 0.06), (0.42, 0.62, 0.16), light) * mix((1.0, 1.0, 1.0), (1.25, 0.92, 0.9), tint)
    twigs = mix((0.34, 0.29, 0.28), (0.52, 0.47, 0.45), light)
    rime = smooth(scene.grain + light, 0.55, 1.0)
    bare = blend(twigs, scene.snow(0.5 + 0.5 * light), rime * 0.8)
    yield _Layer(
        crown, scene.paint(green, bare), scene.paint(torch.ones_like(light), 0.5 + 0.25 * scene.grain + 0.25 * rime)
    )
    for x, y in ((-0.24, 0.6), (-0.13, 0.82), (0.05, 0.92), (0.17, 0.78), (0.26, 0.58)):
        start = 0.3 + 0.1 * abs(x) / 0.26
        share = ((up / tall - start) / (y - start)).clamp(0, 1)
        branch = scene.span(across - tall * x * share, tall * 0.012 * (1.4 - share)) * scene.above(up - tall * start)
        branch = branch * scene.above(tall * y - up) * crown
        yield _Layer(branch, bark * 0.8, scene.paint(torch.zeros_like(share), 0.9 * torch.ones_like(share)))
