"""The face of an avatar, drawn in the order in which it is called: body, skin, nose, mouth, eyes, brows."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from xdomain.engines.avatar_schema import SCHEMA, opening
from xdomain.engines.shapes import Canvas, Window, between, cut, ellipse, pick, pixels, rectangle, smooth, table, wave

SKIN = (
    (1.0, 0.89, 0.81),
    (0.97, 0.79, 0.67),
    (0.89, 0.67, 0.51),
    (0.74, 0.5, 0.34),
    (0.54, 0.34, 0.22),
    (0.35, 0.22, 0.15),
)
HAIR = [(0.1, 0.09, 0.1), (0.37, 0.22, 0.13), (0.86, 0.69, 0.38), (0.66, 0.27, 0.1), (0.66, 0.66, 0.68)]
IRIS = [
    (0.13, 0.08, 0.06),
    (0.36, 0.2, 0.1),
    (0.5, 0.38, 0.16),
    (0.28, 0.5, 0.25),
    (0.2, 0.46, 0.78),
    (0.48, 0.55, 0.62),
]
LIPS = [(0.8, 0.42, 0.4), (0.8, 0.06, 0.12), (0.93, 0.3, 0.5), (0.48, 0.1, 0.28)]
FRECKLES = (
    (0.3, 0.02),
    (0.42, 0.06),
    (0.54, 0.01),
    (0.36, 0.12),
    (0.5, 0.11),
    (0.64, 0.07),
)  # across in widths of the face, down
PER_HEAD = {"parameters", "chin", "opening", "nose_tip", "mouth_y", "mouth_width", "skin", "hair", "lips"}


@dataclass
class Head:
    """One chunk of avatars: parameters and coordinates.

    Attributes:
        u: parameters [n, P].
        x: coordinates of the pixels in the frame of the head, [n, 1, s, s].
        y: as x, pointing down.
        emoji: flat colours, no shading.
    """

    u: Tensor
    x: Tensor
    y: Tensor
    emoji: bool

    def crop(self, window: Window, who: Tensor | None) -> "Head":
        """A window of the pictures of some heads (indices, or None: all)."""
        part = Head(
            self.u if who is None else self.u[who], cut(self.x, window, who), cut(self.y, window, who), self.emoji
        )
        if who is None:  # values per head do not change
            vars(part).update({name: vars(self)[name] for name in PER_HEAD & vars(self).keys()})
        return part

    def who(self, name: str) -> Tensor:
        """Indices of the heads of which a parameter is not 0, [k]."""
        return self.column(name).nonzero()[:, 0]

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """All parameters by name, each [n, 1, 1, 1]."""
        return dict(zip(SCHEMA.names, self.u.T.contiguous().view(len(SCHEMA), -1, 1, 1, 1).unbind(), strict=True))

    def __getitem__(self, name: str) -> Tensor:
        """A parameter, [n, 1, 1, 1]."""
        return self.parameters[name]

    def column(self, name: str) -> Tensor:
        """A parameter, [n]."""
        return self.u[:, SCHEMA.index(name)]

    @cached_property
    def pose(self) -> list[tuple[float, float]]:
        """Least and largest scale, shift_x, shift_y and tilt of the chunk."""
        poses = torch.stack([self.column(name) for name in ("scale", "shift_x", "shift_y", "tilt")])
        return list(zip(poses.amin(1).tolist(), poses.amax(1).tolist(), strict=True))

    @cached_property
    def inner(self) -> Tensor:
        """X relative to the middle line of the face, which a turned head shows off its centre."""
        return self.x - self["yaw"]

    @cached_property
    def side(self) -> Tensor:
        """Distance from the middle line: the face is symmetric."""
        return self.inner.abs()

    @cached_property
    def chin(self) -> Tensor:
        """Y of the chin: an open mouth lowers it."""
        return self["chin"] + 0.03 * self.opening

    @cached_property
    def opening(self) -> Tensor:
        return pixels(opening(self.u))

    @cached_property
    def nose_tip(self) -> Tensor:
        return self["eye_height"] + self["nose_length"] + 0.03

    @cached_property
    def mouth_y(self) -> Tensor:
        return self.nose_tip + self["mouth_height"] * (self["chin"] - self.nose_tip)

    @cached_property
    def mouth_width(self) -> Tensor:
        return self["mouth_width"] * (1 + 0.38 * self["smile"]) - 0.015 * self["mouth_open"]

    @cached_property
    def mouth(self) -> tuple[Tensor, Tensor]:
        """Coordinates in the frame of the mouth: share of the half width, and y relative to the bent middle line."""
        across = self.inner / self.mouth_width
        bend = 0.16 * self["smile"] - 0.028
        return across, self.y - self.mouth_y + bend * (across.square().clamp(max=2) - 0.45)

    @cached_property
    def outline(self) -> Tensor:
        """Distance to the edge of the face."""
        down = (self.y * (1 / self.chin)).clamp_(0, 1)
        narrow = (down.square() * -self["jaw_taper"]).add_(1)
        square = down.mul_(4).clamp_(max=1).mul_(self["jaw_square"]).add_(0.1)
        return ellipse(self.x / narrow, self.y, self["face_width"], self.chin, square, above=self["skull"])

    @cached_property
    def skin(self) -> Tensor:
        """Colour of the skin, [n, 3, 1, 1]."""
        tones = torch.tensor(SKIN, dtype=torch.float64, device=self.u.device)
        tone = self.column("skin_tone").double() * (len(SKIN) - 1)
        below = tone.floor().clamp(0, len(SKIN) - 2).long()
        colour = tones[below] + (tone - below)[:, None] * (tones[below + 1] - tones[below])
        warmth = self.column("skin_warmth").double()[:, None] * tones.new_tensor([0.025, 0.0, -0.035])
        return pixels((colour + warmth).clamp(0, 1))

    @cached_property
    def hair(self) -> Tensor:
        """Colour of the hair, [n, 3, 1, 1]."""
        return (pick(HAIR, self.column("hair_colour")) * self["hair_shade"]).clamp(0, 1)

    @cached_property
    def lips(self) -> Tensor:
        """Colour of the lips, [n, 3, 1, 1]: near the skin, or painted."""
        natural = self.skin * self.skin.new_tensor([0.9, 0.58, 0.58]).view(1, 3, 1, 1)
        return torch.where(self["lipstick"] > 0, pick(LIPS, self.column("lipstick")), natural)

    @cached_property
    def strands(self) -> Tensor:
        """Light and dark strands of hair around 1, [n, 1, s, s]."""
        waves = wave(self.x * 9.0 + self.y * 2.5).mul_(wave(self.x * 3.0 - self.y * 1.7 + 0.2))
        return waves.mul_(0.12).add_(1)


def draw_body(head: Head, canvas: Canvas) -> None:
    """Shoulders and neck."""
    clothes = torch.cat([head[f"clothes_{channel}"] for channel in ("red", "green", "blue")], dim=1)
    clothes = 0.1 + 0.75 * clothes
    x, y, chin, neck = head.x, head.y, head["chin"], head["neck_width"]
    canvas.fill(rectangle(x, y - chin - 0.55, 2.6 * neck + 0.1, 0.42, 0.3), clothes)
    shade = head.skin * (0.8 if head.emoji else 0.78)
    canvas.fill(rectangle(x, y - chin + 0.05, neck, 0.25, 0.06), shade)
    canvas.fill(ellipse(x, y - chin - 0.18, neck, 0.12), shade, outline=0)


def draw_ears(head: Head, canvas: Canvas) -> None:
    """Ears, behind the face."""
    ear = head["ear_size"]
    at_x, at_y = head.x.abs() - head["face_width"] * 0.98, head.y - head["eye_height"] - 0.09
    canvas.fill(ellipse(at_x, at_y, ear * 0.75, ear * 1.25), head.skin * 0.94)
    canvas.paint(canvas.cover(ellipse(at_x - ear * 0.15, at_y, ear * 0.35, ear * 0.7)), head.skin * 0.7, 0.7)


def draw_skin(head: Head, canvas: Canvas) -> None:
    """The bare face."""
    canvas.fill(head.outline, head.skin)


def draw_complexion(head: Head, canvas: Canvas) -> None:
    """Cheeks, sockets of the eyes and folds of a smile."""
    skin, side, y = head.skin, head.side, head.y
    width, smile, nose = head["face_width"], head["smile"], head.nose_tip
    at_x, at_y = side - 0.58 * width, y - nose + 0.01 + 0.03 * smile
    blush = skin * skin.new_tensor([1.0, 0.66, 0.64]).view(1, 3, 1, 1)
    amount = (0.15 + 0.65 * head["cheeks"]) * (0.8 + 0.2 * smile)
    if head.emoji:
        canvas.paint(canvas.cover(ellipse(at_x, at_y, 0.085, 0.06)), blush, amount)
    else:
        canvas.paint(smooth((at_x.square() + at_y.square()) / 0.02, 1.0, 0.0), blush, amount)
        fold = head.mouth_width + 0.04 + 0.25 * (y - head.mouth_y)
        line = between(side, fold - 0.012, fold + 0.012, canvas.pixel + 0.02)
        reach = smooth(y, nose - 0.02, nose + 0.05) * smooth(y, head.mouth_y + 0.06, head.mouth_y)
        canvas.paint(line * reach, skin * 0.6, 0.55 * smile)
        socket = ellipse(side - head["eye_spacing"], y - head["eye_height"] + 0.01, 0.15, 0.1)
        canvas.paint(smooth(socket, 0.03, -0.1), skin * 0.72, 0.45)


def draw_freckles(head: Head, canvas: Canvas) -> None:
    """Six on each cheek."""
    nearest = torch.full_like(head.y, 9.0)  # squared distance
    for across, down in FRECKLES:
        spot = (head.side - across * head["face_width"]).square_()
        nearest = torch.minimum(nearest, spot.add_((head.y - (head.nose_tip - 0.08 + down)).square_()))
    radius = 0.011 if head.emoji else 0.013
    canvas.paint(canvas.cover(nearest.sqrt_().sub_(radius)), head.skin * 0.55, head["freckles"])


def draw_mole(head: Head, canvas: Canvas) -> None:
    """A mole on a cheek or on the chin."""
    across, down = table([(0.0, 9.0), (-0.55, 0.06), (0.55, 0.06), (0.22, 0.24)], head.column("mole"))
    spot = (head.inner - across * head["face_width"]).square_() + (head.y - (head.nose_tip + down)).square_()
    canvas.paint(canvas.cover(spot.sqrt_().sub_(0.018)), head.skin * 0.3)


def draw_nose(head: Head, canvas: Canvas) -> None:
    """Bridge and tip: shading in photos, an arc in emojis."""
    x, y = head.x - 1.6 * head["yaw"], head.y
    width, tip, eye = head["nose_width"], head.nose_tip, head["eye_height"]
    side = x.abs()
    if head.emoji:
        arc = ellipse(x, y - tip + 0.035, width, 0.045)
        line = between(arc, -0.009, 0.009, canvas.pixel)
        canvas.paint(line * smooth(y, tip - 0.05, tip - 0.02), head.skin * 0.45)
        return
    down = ((y - eye) / (tip - eye)).clamp(0, 1)
    edge = width * (0.35 + 0.55 * down * down)
    lit = head["light_x"]
    ridge = smooth(y, eye - 0.03, eye + 0.08) * smooth(y, tip + 0.02, tip - 0.03)
    across = side / edge
    away = smooth(x * torch.where(lit > 0, -1.0, 1.0) / edge, 0.2, 1.0) * smooth(across, 1.9, 0.9)
    canvas.paint(away * ridge, head.skin * 0.6, 0.3 + 0.4 * lit.abs())
    canvas.paint(smooth(across, 0.7, 0.0) * ridge, 0.75 * head.skin + 0.25, 0.35)
    below = ellipse(x, y - tip, width * 1.15, 0.035)
    canvas.paint(smooth(below, 0.015, -0.02) * smooth(y, tip - 0.01, tip + 0.02), head.skin * 0.5, 0.65)
    tipped = ellipse(x, y - tip + 0.03, width * 0.6, 0.035)
    canvas.paint(smooth(tipped, 0.01, -0.03), 0.7 * head.skin + 0.3, 0.4)
    holes = ellipse(side - width * 0.52, y - tip - 0.002, width * 0.3, 0.014)
    canvas.paint(canvas.cover(holes), head.skin * 0.25, 0.75)


def draw_mouth(head: Head, canvas: Canvas) -> None:
    """Lips, and teeth in a dark mouth if it is open."""
    across, y = head.mouth
    inside = (1 - across.square()).clamp(min=0)
    full, gap = head["lip_fullness"], 0.085 * head.opening
    end = canvas.cover(head.side - head.mouth_width)
    pixel = canvas.pixel
    upper, lower = -full * inside * (1.15 - 0.35 * inside), full * 1.15 * inside
    above, below = -0.25 * gap * inside, 0.75 * gap * inside
    lips = between(y, upper + above, lower + below, pixel) * end
    if canvas.line is not None:
        line = canvas.line * 0.7
        canvas.paint(
            between(y, upper + above - line, lower + below + line, pixel) * end, head.lips * 0.28, part="mouth"
        )
    canvas.paint(lips, head.lips, part="mouth")
    if not head.emoji:
        canvas.paint(
            between(y, below + 0.3 * lower, below + 0.7 * lower, pixel) * end, 0.75 * head.lips + 0.25, 0.5, "mouth"
        )
        under = smooth((y - lower - below - 0.025).abs(), 0.025, 0.0) * smooth(across.abs(), 0.8, 0.2)
        canvas.paint(under, head.skin * 0.6, 0.4)
    dark = head.lips * 0.25
    canvas.paint(between(y, above - 0.006, below + 0.006, pixel) * end, dark, part="mouth")
    teeth = between(y, above, above * 0.4 + below * 0.45, pixel) * end
    canvas.paint(teeth, torch.full_like(dark, 0.96), smooth(head.opening, 0.2, 0.3), "mouth")


def draw_eyes(head: Head, canvas: Canvas) -> None:
    """White, iris, pupil, glint, lids; narrowed by a smile."""
    spacing, wide = head["eye_spacing"], head["eye_width"]
    smile = head["smile"]
    right = head.inner.sign()
    x = head.side - spacing
    y = head.y - head["eye_height"] + head["eye_tilt"] * x
    bow = (1 - (x / wide).square()).clamp(min=0)
    tall = head["eye_opening"] * (1 - 0.15 * smile)
    top, bottom = -tall * bow * 1.15, tall * bow * (0.85 - 0.4 * smile)
    end = canvas.cover(x.abs() - wide)
    opened = between(y, top, bottom, canvas.pixel) * end
    canvas.paint(opened, torch.full_like(head.skin, 0.97 if head.emoji else 0.9))
    iris = pick(IRIS, head.column("iris"))
    at_x = x - right * head["gaze"] * wide
    radius = 0.5 * wide + 0.25 * tall
    circle = (at_x.square() + (y + 0.1 * tall).square()).sqrt()
    canvas.paint(canvas.cover(circle - radius) * opened, iris * 0.45)
    canvas.paint(canvas.cover(circle - radius * 0.82) * opened, iris)
    canvas.paint(canvas.cover(circle - radius * 0.42) * opened, iris * 0.1)
    glint = ((at_x - right * 0.3 * radius).square() + (y + 0.1 * tall + 0.35 * radius).square()).sqrt()
    canvas.paint(canvas.cover(glint - 0.24 * radius) * opened, torch.ones_like(iris), 0.95)
    if not head.emoji:
        canvas.paint(between(y, top, top * 0.55, canvas.pixel) * end, iris * 0.2, 0.35)
    lash = 0.01 + 0.018 * (1 - head["presentation"])
    wing = end + (1 - end) * smooth(x, wide + 0.035, wide) * x.sign().clamp_(min=0) * (1 - head["presentation"])
    lid = between(y, top - lash - 0.2 * (x.clamp(min=0) - wide).clamp(min=0), top + 0.004, canvas.pixel) * wing
    canvas.paint(lid, head.skin * 0.16)
    canvas.paint(between(y, bottom - 0.002, bottom + 0.006, canvas.pixel) * end, head.skin * 0.35, 0.7)
    if not head.emoji:
        crease = top - 0.03 - 0.01 * bow
        canvas.paint(between(y, crease - 0.006, crease + 0.006, canvas.pixel) * end, head.skin * 0.5, 0.5)


def draw_brows(head: Head, canvas: Canvas) -> None:
    """Brows in a shade of the hair."""
    x = (head.side - head["eye_spacing"]) / (head["eye_width"] * 1.35)
    middle = head["eye_height"] - head["brow_height"] - head["brow_angle"] * x * 0.1 - head["brow_arch"] * (1 - x * x)
    thick = head["brow_thickness"] * (1 - 0.55 * smooth(x, -0.2, 1.1))
    colour = torch.minimum(head.hair * head["brow_shade"], head.skin * 0.6)
    hairy = between(head.y, middle - thick, middle + thick, canvas.pixel) * canvas.cover(
        (x.abs() - 1) * head["eye_width"]
    )
    canvas.paint(hairy, colour, 1.0 if head.emoji else 0.9)
