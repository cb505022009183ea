"""What a face wears: hair, beard, glasses and hat."""

import torch
from torch import Tensor

from xdomain.engines.avatar_face import Head
from xdomain.engines.avatar_schema import BEARDS, HAIR_STYLES, HATS
from xdomain.engines.shapes import Canvas, between, ellipse, pick, rectangle, smooth, table, wave

FRAME = [
    (0.06, 0.06, 0.07),
    (0.4, 0.22, 0.1),
    (0.7, 0.1, 0.12),
    (0.12, 0.25, 0.62),
    (0.8, 0.62, 0.22),
    (0.92, 0.92, 0.9),
]
HAT = [
    *[(0.72, 0.12, 0.14), (0.13, 0.18, 0.42), (0.16, 0.42, 0.24), (0.85, 0.63, 0.15)],
    *[(0.1, 0.1, 0.11), (0.5, 0.5, 0.52), (0.45, 0.2, 0.5), (0.9, 0.85, 0.74)],
]
# In the order of HAIR_STYLES. Over the skull, over the temples (thickness); hairline (0: top of the skull, 1: brows);
# width of the face left free; y where the sides end; how square and how oblique the hairline is; peak of a parting;
# size and density of curls; y where the hair behind the head ends, how far it stands out there; opacity.
STYLES = [
    (0.0, 0.0, 0.3, 0.9, -0.2, 0.5, 0.0, 0.0, 0.0, 1.0, 0.1, 0.0, 0.0),  # bald
    (0.012, 0.01, 0.38, 0.9, 0.0, 0.75, 0.0, 0.0, 0.0, 1.0, 0.1, 0.0, 0.8),  # buzz
    (0.07, 0.035, 0.42, 0.88, 0.02, 0.6, 0.1, 0.0, 0.012, 5.0, 0.1, 0.0, 1.0),  # short
    (0.085, 0.045, 0.5, 0.88, 0.06, 0.4, 0.42, 0.0, 0.0, 1.0, 0.15, 0.0, 1.0),  # side_part
    (0.2, 0.015, 0.32, 0.9, -0.02, 0.8, 0.05, 0.0, 0.02, 4.5, 0.1, 0.0, 1.0),  # quiff
    (0.085, 0.075, 0.82, 0.84, 2.0, 0.95, 0.05, 0.0, 0.0, 1.0, 0.46, 0.06, 1.0),  # fringe
    (0.13, 0.13, 0.5, 0.86, 2.0, 0.4, 0.1, 0.0, 0.033, 2.8, 0.5, 0.08, 1.0),  # curly
    (0.26, 0.26, 0.4, 0.9, 2.0, 0.5, 0.0, 0.0, 0.02, 4.5, 0.42, 0.0, 1.0),  # afro
    (0.06, 0.05, 0.36, 0.86, 2.0, 0.2, 0.0, 0.45, 0.0, 1.0, 1.1, 0.1, 1.0),  # long
    (0.08, 0.08, 0.44, 0.86, 2.0, 0.3, 0.32, 0.1, 0.035, 2.4, 0.9, 0.22, 1.0),  # wavy
    (0.03, 0.015, 0.34, 0.92, -0.02, 0.5, 0.0, 0.0, 0.0, 1.0, 0.1, 0.0, 1.0),  # bun
]
# In the order of GLASSES. Half width (in distances of the eyes), half height, corner, half width of the frame, opacity
# and brightness of the lens, how much the lens widens upwards.
SPECTACLES = [
    (0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.62, 0.112, 0.112, 0.011, 0.14, 0.9, 0.0),
    (0.72, 0.105, 0.03, 0.022, 0.14, 0.9, 0.1),
    (0.74, 0.075, 0.02, 0.013, 0.14, 0.9, 0.0),
    (0.74, 0.11, 0.05, 0.02, 0.94, 0.06, 0.15),
    (0.72, 0.125, 0.085, 0.011, 0.8, 0.16, 0.35),
]


class Hair:
    """The hair of one chunk: behind the head and in front of it.

    Args:
        head: the head that has the hair.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        (top, temple, line, free, self.end, square, oblique, peak, curl, dense, self.back, flare, self.opacity) = table(
            STYLES, head.column("hair_style")
        )
        x, y, volume, width = head.x, head.y, head["hair_volume"], head["face_width"]
        top, temple = top * volume, temple * volume
        ripple = wave(x * dense).mul_(wave(y * dense + 0.1)).mul_(curl)  # flatter than 1 / 8 dense, or curls come off
        wide = smooth(y, -0.3, 0.7).mul_(flare * volume).add_(width + temple)
        self.shown = self.opacity.expand_as(y).clone()  # share of the hair that a hat leaves: nothing above its rim
        hatted = head.who("hat")
        if len(hatted):
            edge, at = rim(head)[hatted], y[hatted]
            wide[hatted] -= temple[hatted] * smooth(at, edge + 0.2, edge)
            self.shown[hatted] *= 1 - smooth(at, edge + 0.01, edge - 0.01)
        tall = (top + head["skull"]).clamp(min=0.1) - 0.04
        below = ((y + 0.04) * 1e4).clamp_(0, 0.8)  # square below, round above
        self.outer = ellipse(x, y + 0.04, wide, self.back + 0.04, below, above=tall).add_(ripple)
        side = torch.where(head["hair_side"] > 0, 1.0, -1.0)
        part = head["hair_side"] * 0.12
        across = (head.inner - part) * side
        brow = head["eye_height"] - head["brow_height"] - 0.01
        fringe = -head["skull"] + line * (brow + head["skull"]) - oblique * across + peak * (across.abs() - 0.05)
        middle = brow + 0.25
        down = (y - middle).clamp_(max=0).div_((middle - fringe).clamp_(min=0.05))
        self.window = ellipse(x - 0.5 * head["yaw"], down * 0.4, free * width, 0.4, square).add_(ripple * 0.6)
        self.peak = -head["skull"] - top
        if not head.emoji:
            self.shine = smooth((self.outer + 0.13).abs_(), 0.09, 0.0).mul_(smooth(y, 0.1, -0.3))

    def draw_back(self, canvas: Canvas) -> None:
        """The hair behind head and shoulders, and a bun."""
        head = self.head
        distance = self.outer
        who = (head.column("hair_style") == HAIR_STYLES.index("bun")).nonzero()[:, 0]
        if len(who):
            volume = head["hair_volume"][who]
            bun = ellipse(head.x[who], head.y[who] - self.peak[who] + 0.07, 0.17 * volume, 0.14 * volume)
            distance = distance.index_copy(0, who, torch.minimum(distance[who], bun))
        self._draw(canvas, distance, 0.75)

    def draw_front(self, canvas: Canvas) -> None:
        """The hair around the face."""
        distance = torch.maximum(self.outer, -self.window)
        torch.maximum(distance, self.head.y - self.end, out=distance)
        if not self.head.emoji:
            shadow = smooth(self.window, -0.09, 0.0) * smooth(self.head.y, self.end + 0.05, self.end - 0.05)
            canvas.paint(shadow * canvas.cover(self.head.outline), self.head.skin * 0.4, 0.5 * self.opacity)
        self._draw(canvas, distance, 1.0)

    def _draw(self, canvas: Canvas, distance: Tensor, shade: float) -> None:
        head = self.head
        colour = head.hair * shade
        if canvas.line is not None:
            outline = canvas.cover((distance + 0.3 * canvas.line).abs() - 0.7 * canvas.line)
            canvas.paint(canvas.cover(distance).mul_(self.shown), colour, part="hair")
            canvas.paint(outline.mul_(self.shown), colour * 0.28, part="hair")
            return
        colour = colour * (head.strands + 0.45 * self.shine) + 0.06 * self.shine
        canvas.paint(canvas.cover(distance, 0.015).mul_(self.shown), colour, part="hair")


def beard_colour(head: Head) -> Tensor:
    """The hair's, but always darker than the skin, [n, 3, 1, 1]: a fair beard on fair skin would not be seen."""
    return torch.minimum(head.hair * 0.85, head.skin * 0.6)


def draw_beard(head: Head, canvas: Canvas) -> None:
    """Stubble, goatee or full beard; the moustache follows after the mouth."""
    stubble, goatee, full = ((head["beard"] == BEARDS.index(kind)).float() for kind in ("stubble", "goatee", "full"))
    length = 0.015 + 0.1 * head["beard_length"]
    across, y = head.mouth
    width, side = head["face_width"], head.side
    cheek = head.mouth_y - 0.02 - 0.3 * ((side / width).square() - 0.15)
    jaw = torch.maximum(head.outline - full * length * smooth(head.y, 0.0, 0.4), cheek - head.y)
    free = ellipse(
        across * 0.9, y - 0.01 - 0.03 * head.opening, 1.0, head["lip_fullness"] + 0.022 + 0.04 * head.opening
    )
    jaw = torch.maximum(jaw, -free * 0.05)
    bottom = head.chin + 0.4 * length
    low = head.mouth_y + head["lip_fullness"] + 0.03 + 0.06 * head.opening
    tuft = ellipse(head.inner, head.y - (low + bottom) / 2, head["mouth_width"] * 0.62, (bottom - low) / 2, 0.5)
    colour = beard_colour(head)
    if not head.emoji:
        colour = colour * head.strands
    soft = 0.0 if head.emoji else 0.02
    shadow = canvas.cover(jaw, soft + 0.01) * stubble
    canvas.paint(shadow, 0.45 * head.skin + 0.25 * head.hair, 0.35, "facial_hair")
    canvas.fill(jaw, colour, "facial_hair", softness=soft, present=full)
    canvas.fill(tuft, colour, "facial_hair", softness=soft, present=goatee)


def draw_moustache(head: Head, canvas: Canvas) -> None:
    """The moustache, by itself or with a full beard."""
    present = torch.isin(
        head["beard"], head["beard"].new_tensor([BEARDS.index("moustache"), BEARDS.index("full")])
    ).float()
    across, y = head.mouth
    arch = (1 - (across * 0.92).square()).clamp(min=0)
    bottom = -0.8 * head["lip_fullness"] - (0.012 + 0.021 * head.opening) * arch
    top = bottom - 0.052 * arch.sqrt()
    end = canvas.cover((across.abs() - 1.08) * head.mouth_width) * present
    colour = beard_colour(head)
    if canvas.line is not None:
        line = canvas.line * 0.8
        canvas.paint(between(y, top - line, bottom + line * 0.5, canvas.pixel) * end, colour * 0.28, part="facial_hair")
    canvas.paint(between(y, top, bottom, canvas.pixel) * end, colour, part="facial_hair")


def draw_glasses(head: Head, canvas: Canvas) -> None:
    """Frame and lenses. All of the lenses count as glasses: even clear ones show a tint and a glint."""
    wide, tall, corner, thick, tint, bright, flare = table(SPECTACLES, head.column("glasses"))
    spacing, side = head["eye_spacing"], head.side
    wide = wide * spacing
    x, y = side - spacing, head.y - head["eye_height"] - 0.012
    colour = pick(FRAME, head.column("frame"))
    lens = rectangle(x, y, wide * (1 - flare * (y / tall).clamp(-1, 1)) / (1 + 0.3 * flare), tall, corner)
    glass = torch.cat([bright * k for k in (0.95, 1.0, 1.05)], dim=1)
    canvas.paint(canvas.cover(lens), glass, tint, "glasses")
    slant = head.inner - spacing * torch.where(head.inner > 0, 1.0, -1.0) + 0.7 * y
    glint = between(slant, -0.055, -0.01, canvas.pixel) + 0.7 * between(slant, 0.01, 0.03, canvas.pixel)
    shine = 0.3 + 0.2 * (bright > 0.5)
    canvas.paint(glint * canvas.cover(lens + 0.015), torch.ones_like(colour), shine, "glasses")
    frame = between(lens, -thick, thick, canvas.pixel)
    bridge = between(y + 0.03 + 0.02 * (side / spacing).clamp(max=1), -thick, thick, canvas.pixel) * canvas.cover(
        side - spacing + wide
    )
    temple = between(y + 0.045, -thick, thick, canvas.pixel) * canvas.cover(spacing + wide - side)
    temple = temple * canvas.cover(head.x.abs() - head["face_width"] * 0.99)
    if canvas.line is not None:
        line = 0.45 * canvas.line
        canvas.paint(between(lens, -thick - line, thick + line, canvas.pixel), colour * 0.28, part="glasses")
    canvas.paint(torch.maximum(torch.maximum(frame, bridge), temple), colour, part="glasses")


def rim(head: Head) -> Tensor:
    """Y of the lower edge of a hat."""
    return head["eye_height"] - head["brow_height"] - 0.085


def draw_hat(head: Head, canvas: Canvas) -> None:
    """Beanie, cap with a visor, or a hat with a brim."""
    x, y = head.x, head.y
    beanie, cap, brimmed = ((head["hat"] == HATS.index(kind)).float() for kind in HATS[1:])
    width, edge = head["face_width"] + 0.045, rim(head)
    colour = pick(HAT, head.column("hat_colour"))
    tall = head["skull"] + 0.12 + edge
    dome = ellipse(x, (y - edge).clamp(max=0), width, tall, 0.35 * brimmed + 0.1)
    dome = torch.maximum(dome, y - edge - 0.3 * (width - x.abs()).clamp(max=0))
    cloth = colour
    if not head.emoji:
        ribs = torch.where(beanie > 0, 0.1 * wave(x * 11.0), 0.06 * wave(x * 1.2 + 0.3))
        cloth = colour * (1 + ribs)
    canvas.fill(dome, cloth, "hat")
    band = rectangle(x, y - edge + 0.05, width + 0.015, 0.065, 0.04)
    canvas.fill(band, cloth * 0.8, "hat", present=beanie)
    visor = ellipse(x - 2 * head["yaw"], (y - edge).clamp(min=0), width * 0.95, 0.12)
    canvas.fill(torch.maximum(visor, edge - 0.035 - y), cloth * 0.62, "hat", present=cap)
    ribbon = torch.maximum(dome, (y - edge + 0.06).abs() - 0.05)
    canvas.paint(canvas.cover(ribbon) * brimmed, colour * 0.35, part="hat")
    brim = ellipse(x, y - edge + 0.12 * x * x, width + 0.24, 0.055)
    canvas.fill(brim, cloth * 0.85, "hat", present=brimmed)
