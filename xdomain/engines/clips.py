"""Short videos with several moving parts, for methods that learn from a single video.

`render_clip` draws a pond, a fire or balloons. A frame is a pure function of (kind, seed, its time), so a longer clip
begins with the shorter one. Positions are functions of time in closed form: nothing drifts and nothing jumps.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from xdomain.engines.drawing import Draws, logical_shift, splitmix64

FRAME_RATE = 25  # frames per second

Colour = tuple[float, float, float]


def render_clip(kind: str, frames: int, height: int, width: int, seed: int) -> Tensor:
    """Draws a video.

    Args:
        kind: ``water`` (a pond that mirrors hills, with a boat, two ducks and the rings of falling drops), ``fire``
            (flames, sparks and the glow on a wall) or ``balloons`` (hot-air balloons before clouds).
        frames: number of frames T, at 25 per second.
        height: of the frames in pixels.
        width: of the frames in pixels.
        seed: seed of the scene; another seed gives another arrangement and another clip.

    Returns:
        uint8 [T, 3, height, width], RGB.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no clip is called {kind!r}, only {', '.join(KINDS)}")
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    scene = _Scene(x / height, y / height, height, seed)
    clip = torch.empty(frames, 3, height, width, dtype=torch.uint8)
    for i in range(frames):
        clip[i] = (KINDS[kind](scene, i / FRAME_RATE) * 255).round().clamp(0, 255).byte()
    return clip


class _Scene:
    """Common to all kinds: coordinates, random numbers that are the same in every frame, noise, shapes.

    Attributes:
        x: of the pixel centres, float32 [h, w]; the unit of all lengths is the height of the frame.
        y: likewise, pointing down.
        width: of the frame.
    """

    def __init__(self, x: Tensor, y: Tensor, height: int, seed: int) -> None:
        self.x, self.y, self.height, self.seed = x, y, height, seed
        self.width = x.shape[1] / height

    def random(self, count: int, low: float, high: float, stream: int) -> list[float]:
        """Uniform numbers; every use has its own stream."""
        values: list[float] = Draws(torch.tensor([stream]), self.seed).uniform(low, high, count)[0].tolist()
        return values

    def noise(self, x: Tensor, y: Tensor, t: float, stream: int, octaves: int = 1) -> Tensor:
        """Smooth noise in space and time, about [-1, 1]: value noise on a lattice of step 1, halved per octave."""
        total, weight = torch.zeros_like(x), 0.0
        for octave in range(octaves):
            scale = 2.0**octave
            total = total + self._value_noise(x * scale, y * scale, t * scale, 16 * stream + octave) / scale
            weight += 1 / scale
        return total * (1.6 / weight)

    def _value_noise(self, x: Tensor, y: Tensor, t: float, stream: int) -> Tensor:
        column, row, z = x.floor(), y.floor(), math.floor(t)
        fade_x, fade_y, fade_t = _fade(x - column), _fade(y - row), float(_fade(torch.tensor(t - z)))
        column, row = column.long(), row.long()
        first_column, first_row = column.min(), row.min()
        columns = torch.arange(int(first_column), int(column.max()) + 2)
        rows = torch.arange(int(first_row), int(row.max()) + 2)
        start = splitmix64(torch.tensor(self.seed * 1009 + stream))
        now, soon = (self._lattice(splitmix64(start + plane), rows, columns) for plane in (z, z + 1))
        lattice = torch.lerp(now, soon, fade_t).flatten()
        corner = (row - first_row) * len(columns) + column - first_column
        upper = torch.lerp(lattice[corner], lattice[corner + 1], fade_x)
        corner = corner + len(columns)
        return torch.lerp(upper, torch.lerp(lattice[corner], lattice[corner + 1], fade_x), fade_y)

    @staticmethod
    def _lattice(plane: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Uniform values in [-1, 1) at all pairs of a row and a column: each a hash of its place."""
        lines = splitmix64(plane + rows)
        return logical_shift(splitmix64(lines[:, None] + columns), 40).float() / 2**23 - 1

    def inside(self, depth: Tensor) -> Tensor:
        """Share of the pixel that is inside of an edge, from the signed distance to it."""
        return (depth * self.height + 0.5).clamp(0, 1)

    def disc(self, x: Tensor, y: Tensor, rx: float, ry: float) -> Tensor:
        """Coverage by an ellipse around the origin of x and y."""
        radius = ((x / rx) ** 2 + (y / ry) ** 2).sqrt()
        slope = ((x / rx**2) ** 2 + (y / ry**2) ** 2).sqrt().clamp(min=1e-6) / radius.clamp(min=1e-6)
        return self.inside((1 - radius) / slope.clamp(max=1 / min(rx, ry)))


def _fade(x: Tensor) -> Tensor:
    return x * x * x * (x * (x * 6 - 15) + 10)  # Perlin (2002): first and second derivative vanish at 0 and 1


def _rgb(colour: Colour) -> Tensor:
    return torch.tensor(colour).view(3, 1, 1)


def _over(below: Tensor, above: Tensor, coverage: Tensor) -> Tensor:
    return below + (above - below) * coverage


def _ramp(value: Tensor, colours: tuple[Colour, ...]) -> Tensor:
    """Colours [3, h, w] on the chain between colours at equal distances, from values [h, w] in [0, 1]."""
    place = value.clamp(0, 1) * (len(colours) - 1)
    result = _rgb(colours[0]).expand(3, *value.shape)
    for i in range(1, len(colours)):
        result = _over(result, _rgb(colours[i]), (place - (i - 1)).clamp(0, 1))
    return result


def _water(scene: _Scene, t: float) -> Tensor:
    """A pond: the part below the horizon shows the part above, mirrored and bent by the slope of the waves."""
    horizon = 0.4
    depth = (scene.y - horizon).clamp(min=0.5 / scene.height)
    far = 0.35 / depth  # distance on the water along the view, 0.6 at the lower edge
    aside = (scene.x - scene.width / 2) * far
    footprint = far * far / (0.35 * scene.height)  # length of a pixel on the water: waves that are shorter average out

    slope_x, slope_y = torch.zeros_like(far), torch.zeros_like(far)
    for angle, length, phase in zip(
        scene.random(7, -1.1, 1.1, 0), scene.random(7, 0.06, 0.4, 1), scene.random(7, 0, 6.3, 2), strict=True
    ):
        k = 2 * math.pi / length
        omega = math.sqrt(1.2 * k)  # deep water; the pond is some 10 m wide, hence not 9.81
        swing = (k * (math.sin(angle) * aside - math.cos(angle) * far) - omega * t + phase).cos()
        swing = swing * 0.05 / (1 + (k * footprint * 0.5) ** 2)
        slope_x, slope_y = slope_x + math.sin(angle) * swing, slope_y - math.cos(angle) * swing
    for place, away, start in zip(
        scene.random(3, -0.5, 0.5, 3), scene.random(3, 0.7, 1.5, 4), scene.random(3, 0, 3, 5), strict=True
    ):
        age = (t + start) % 3.0  # a drop falls every three seconds
        dx, dz = aside - place * scene.width, far - away
        radius = (dx * dx + dz * dz).sqrt().clamp(min=1e-4)
        front = radius - 0.25 * age
        strength = min(age * 5, 1.0) * max(0.0, 1 - age / 2.8) ** 2
        ring = (front * 2 * math.pi / 0.07).cos() * torch.exp(-((front / 0.08) ** 2)) * 0.35 * strength
        slope_x, slope_y = slope_x + ring * dx / radius, slope_y + ring * dz / radius

    mirrored = _land(scene, scene.x + slope_x * 0.25, horizon - depth * 0.85 - slope_y.abs() * 0.25, horizon, t)
    grazing = (0.25 + 0.75 / (1 + 6 * depth) - slope_y * 0.8).clamp(0, 1)  # more mirror at a distance, as Fresnel
    water = _over(_rgb((0.05, 0.17, 0.19)), mirrored * 0.93, grazing)
    glint = ((slope_y * 6 + slope_x * 3 - 0.75) * 3).clamp(0, 1)
    water = _over(water, _rgb((1.0, 0.97, 0.88)), glint * 0.5)
    picture = _over(_land(scene, scene.x, scene.y, horizon, t), water, scene.inside(scene.y - horizon))

    # A boat crosses to the right, two ducks to the left; all of them bob.
    floating = (
        (0.5, 0.05, 0.16, scene.random(1, 0, 1, 6)[0]),
        (0.72, -0.08, 0.045, scene.random(1, 0, 1, 7)[0]),
        (0.86, -0.11, 0.06, scene.random(1, 0, 1, 8)[0]),
    )
    for i, (line, speed, scale, start) in enumerate(floating):
        span = scene.width + 4 * scale
        middle = (start * span + speed * t) % span - 2 * scale
        bob = 0.05 * scale * math.sin(2.6 * t + 6 * start)
        x, y = (scene.x - middle) / scale, (scene.y - line - bob) / scale
        for mirror in (True, False):
            ripple = x + slope_x * 1.5 if mirror else x
            up = y / 0.8 + slope_y * 1.5 if mirror else -y  # height above the water line, in the reflection downwards
            colour, coverage = (_boat if i == 0 else _duck)(scene, ripple, up, scale)
            picture = _over(picture, colour * (0.75 if mirror else 1.0), coverage * (0.55 if mirror else 1.0))
    return picture


def _land(scene: _Scene, x: Tensor, y: Tensor, horizon: float, t: float) -> Tensor:
    """Sky with slow clouds, hills and trees at any coordinates above the horizon: [3, h, w]."""
    up = (horizon - y) / horizon
    sky = _ramp(up, ((0.95, 0.87, 0.76), (0.66, 0.8, 0.92), (0.36, 0.58, 0.85)))
    clouds = (scene.noise(x * 3 - 0.15 * t, y * 9, 0.1 * t, 20, 3) * 1.5 - 0.1).clamp(0, 1)
    sky = _over(sky, _rgb((1.0, 0.98, 0.95)), clouds * 0.8)
    line = torch.zeros_like(y)
    hills = 0.14 + 0.1 * scene.noise(x * 1.7, line, 0.0, 21, 2)
    trees = 0.045 + 0.035 * scene.noise(x * 9, line, 0.0, 22, 3)
    texture = 0.12 * scene.noise(x * 25, y * 25, 0.0, 23, 2)
    sky = _over(sky, _rgb((0.42, 0.53, 0.58)) + texture * 0.5, scene.inside(hills - (horizon - y)))
    return _over(sky, _rgb((0.16, 0.28, 0.15)) + texture, scene.inside(trees - (horizon - y)))


def _boat(scene: _Scene, x: Tensor, up: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Colour and coverage of a sailing boat; its unit of length is `scale`, up is 0 at the water line."""
    hull = scene.inside(torch.minimum(torch.minimum(up, 0.18 - up), 0.55 + 0.8 * up - x.abs()) * scale)
    mast = scene.inside(torch.minimum(0.015 - x.abs(), torch.minimum(up, 1.3 - up)) * scale)
    main = scene.inside(torch.minimum(torch.minimum(x - 0.04, up - 0.25), 1.25 - up - 1.9 * x) * scale)
    jib = scene.inside(torch.minimum(torch.minimum(-0.04 - x, up - 0.25), 1.05 - up + 1.9 * x) * scale)
    colour = _over(_rgb((0.95, 0.94, 0.9)), _rgb((0.85, 0.3, 0.2)), jib)
    colour = _over(colour, _rgb((0.5, 0.22, 0.13)), torch.maximum(hull, mast))
    return colour, torch.maximum(torch.maximum(hull, mast), torch.maximum(main, jib))


def _duck(scene: _Scene, x: Tensor, up: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Colour and coverage of a duck that swims to the left."""
    above = scene.inside(up * scale)
    body = scene.disc(x * scale, (up - 0.15) * scale, 0.75 * scale, 0.35 * scale) * above
    head = scene.disc((x + 0.6) * scale, (up - 0.65) * scale, 0.25 * scale, 0.25 * scale)
    bill = scene.disc((x + 0.9) * scale, (up - 0.6) * scale, 0.2 * scale, 0.08 * scale)
    colour = _over(_rgb((0.95, 0.55, 0.1)), _rgb((0.5, 0.37, 0.25)) * (1 + 0.4 * up), body)
    return _over(colour, _rgb((0.1, 0.35, 0.22)), head), torch.maximum(body, torch.maximum(head, bill))


def _fire(scene: _Scene, t: float) -> Tensor:
    """Flames: heat that noise carries upwards and bends, in the colours of a black body; sparks; glow on a wall."""
    x, y = scene.x, scene.y
    base = 0.86
    up = base - y
    rise = up.clamp(min=0)
    heat = torch.zeros_like(x)
    count = 4
    places, widths = scene.random(count, -0.03, 0.03, 0), scene.random(count, 0.09, 0.15, 1)
    heights, speeds = scene.random(count, 0.4, 0.75, 2), scene.random(count, 0.5, 0.9, 3)
    for i in range(count):
        middle = scene.width * (0.2 + 0.6 * (i + 0.5) / count) + places[i]
        flow = y + speeds[i] * t  # the noise rises with the hot gas
        bend = scene.noise(x * 3, flow * 3, 0.7 * t, 10 + i) * (0.02 + 0.22 * rise)
        lick = scene.noise(x * 7 + bend * 5, flow * 4, 1.3 * t, 20 + i, 3)
        flicker = 1 + 0.15 * math.sin(2 * math.pi * (0.7 + 0.2 * i) * t + 6 * widths[i] / 0.15)
        level = rise / (heights[i] * flicker)
        girth = widths[i] * (1.15 - 0.6 * level.clamp(0, 1))
        flame = 1.15 - ((x - middle + bend) / girth) ** 2 - level + 0.55 * lick * (0.25 + level)
        heat = torch.maximum(heat, flame * scene.inside(up + 0.04))
    glow = 0.75 + 0.12 * math.sin(5.1 * t) + 0.08 * math.sin(8.3 * t + 1)
    reach = ((x - scene.width / 2) ** 2 / (0.45 * scene.width) ** 2 + (y - base + 0.15) ** 2 / 0.4).clamp(min=0)
    lit = 1.6 * glow / (1 + 2.0 * reach)
    row = (y * 9).floor()
    along = x * 4 + 0.5 * (row % 2)
    joint = torch.minimum((y * 9 - (y * 9).round()).abs() / 9, (along - along.round()).abs() / 4)
    mortar = scene.inside(0.006 - joint)
    stone = 0.8 + 0.3 * scene.noise(x * 20, y * 20, 0.0, 30, 2)
    picture = _over(_rgb((0.42, 0.2, 0.12)) * stone, _rgb((0.12, 0.07, 0.06)), mortar * 0.8) * lit
    picture = _over(picture, _rgb((0.2, 0.13, 0.1)) * stone * lit, scene.inside(y - base - 0.06))
    body = ((0.35, 0.03, 0.0), (0.85, 0.2, 0.02), (1.0, 0.55, 0.08), (1.0, 0.85, 0.4), (1.0, 0.97, 0.8))
    picture = _over(picture, _ramp(heat / 1.25, body), (heat * 3).clamp(0, 1))
    for offset, drop, tilt in ((-0.16, 0.0, 0.18), (0.17, 0.01, -0.14), (0.0, 0.045, 0.03)):
        across, down = x - scene.width * (0.5 + offset), y - base - drop
        across, down = across + tilt * down, down - tilt * across
        log = scene.inside(torch.minimum(0.035 - down.abs(), 0.27 * scene.width - across.abs()))
        ember = (scene.noise(x * 15, y * 30, 0.8 * t, 31, 2) - 0.1 - 6 * down).clamp(0, 1)
        bark = _over(_rgb((0.16, 0.09, 0.06)) * stone * (0.6 + 0.6 * lit), _rgb((1.0, 0.35, 0.06)), ember * 0.9)
        picture = _over(picture, bark, log)

    starts, lanes, sways = (scene.random(14, 0, 1, stream) for stream in (4, 5, 6))
    for start, lane, sway in zip(starts, lanes, sways, strict=True):
        age = (t * (0.35 + 0.3 * sway) + start) % 1.0  # 0: leaves the fire, 1: has burnt out
        spark_x = scene.width * (0.25 + 0.5 * lane) + (0.03 + 0.05 * age) * math.sin(6 * age + 9 * sway)
        spark = scene.disc(x - spark_x, y - base + 0.15 + 0.8 * age, 0.007, 0.007)
        picture = _over(picture, _rgb((1.0, 0.75, 0.3)), spark * min(4 * age, 1.0) * (1 - age))
    return picture


def _balloons(scene: _Scene, t: float) -> Tensor:
    """Hot-air balloons of several sizes, the near ones faster, before clouds that drift and above hills that do not."""
    x, y = scene.x, scene.y
    picture = _ramp(y, ((0.25, 0.5, 0.85), (0.5, 0.72, 0.93), (0.85, 0.9, 0.93)))
    for stream, speed, cover in ((20, 0.03, 0.1), (21, 0.07, 0.3)):
        clouds = (scene.noise((x - speed * t) * 2.2, y * 4.5, 0.12 * t, stream, 4) * 1.6 - cover).clamp(0, 1)
        shaded = _over(_rgb((0.8, 0.83, 0.88)), _rgb((1.0, 1.0, 1.0)), clouds)
        picture = _over(picture, shaded, clouds * 0.85)
    line = torch.zeros_like(y)
    for stream, level, colour in ((22, 0.86, (0.45, 0.56, 0.55)), (23, 0.94, (0.3, 0.45, 0.25))):
        ridge = level + 0.05 * scene.noise(x * 2, line, 0.0, stream, 3)
        meadow = _rgb(colour) * (1 + 0.2 * scene.noise(x * 12, y * 30, 0.0, stream + 2, 2))
        picture = _over(picture, meadow, scene.inside(y - ridge))

    count = 6
    starts, lanes, hues = (scene.random(count, 0, 1, stream) for stream in range(3))
    for i in range(count):
        near = (i + 1) / count  # far ones are drawn first
        size = 0.05 + 0.09 * near
        speed = (0.03 + 0.12 * near) * (-1 if hues[i] < 0.3 else 1)
        span = scene.width + 4 * size
        middle = ((i * 0.618 + 0.3 * starts[i]) * span + speed * t) % span - 2 * size
        climb = 0.04 * math.sin(2 * math.pi * (0.12 + 0.1 * lanes[i]) * t + 6.3 * starts[i])
        level = 0.17 + 0.5 * ((i * 0.382 + 0.3 * lanes[i]) % 1.0) + climb
        lean = 0.12 * math.sin(1.7 * t + 6.3 * lanes[i])
        across, down = x - middle, y - level
        across, down = across + lean * down, down - lean * across
        picture = _balloon(scene, picture, across, down, size, hues[i], 0.55 + 0.45 * near)
    return picture


def _balloon(scene: _Scene, picture: Tensor, x: Tensor, y: Tensor, size: float, hue: float, clear: float) -> Tensor:
    """Draws one balloon, centred on its envelope; the far ones fade into the haze."""
    taper = (1 - 0.5 * (y / size).clamp(0, 1.2) ** 2).clamp(min=0.2)
    envelope = scene.disc(x / taper, y, size, 1.15 * size)
    lit = (1 - 0.35 * ((x / size + 0.4) ** 2 + (y / size + 0.5) ** 2)).clamp(0.25, 1)
    around = (x / (size * taper * (1 - (y / (1.15 * size)) ** 2).clamp(min=0.02).sqrt())).clamp(-1, 1).asin()
    gores = around * (4 / math.pi)
    stripe = (0.5 + ((gores - gores.round()).abs() - 0.25) * size * scene.height * 0.8).clamp(0, 1)
    first = torch.tensor([0.5 + 0.45 * math.cos(2 * math.pi * (hue - shift)) for shift in (0, 1 / 3, 2 / 3)])
    second = _rgb((0.97, 0.93, 0.8)) if hue < 0.6 else 1 - 0.7 * first.view(3, 1, 1)
    colour = _over(first.view(3, 1, 1), second, stripe) * lit
    basket = scene.inside(torch.minimum(0.14 * size - x.abs(), 0.11 * size - (y - 1.72 * size).abs()))
    lines = (x.abs() - 0.14 * size - 0.1 * (1.6 * size - y)).abs()
    ropes = scene.inside(0.002 - lines) * scene.inside(torch.minimum(y - size, 1.65 * size - y)) * 0.7
    haze = _rgb((0.75, 0.84, 0.93))
    picture = _over(picture, _over(haze, _rgb((0.25, 0.16, 0.1)), torch.tensor(clear)), torch.maximum(basket, ropes))
    return _over(picture, _over(haze, colour, torch.tensor(clear)), envelope)


KINDS: dict[str, Callable[[_Scene, float], Tensor]] = {"water": _water, "fire": _fire, "balloons": _balloons}
"""Maps the name of a clip to the function that draws the frame at a time in seconds."""
