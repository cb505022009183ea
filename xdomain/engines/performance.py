"""Avatars in motion: a person who turns the head, speaks, looks around and blinks, frame by frame.

`perform` gives the parameters of the frames of a clip for `xdomain.engines.avatars.render`, so that the pose of every
frame is known. The motion is a function of time, seed and take alone, not of the person: two people with the same seed
and take move alike.
"""

import math

import torch
from torch import Tensor

from xdomain.engines.avatars import SCHEMA, draw_parameters
from xdomain.engines.drawing import Draws

VERSION = 1
"""Increase it when any frame changes."""

FRAME_RATE = 25  # frames per second
TURN = 0.11  # largest yaw; a face of a photo turns by 0.06 at most
LOOK = 0.6  # largest gaze to a side
MOVED = ("yaw", "tilt", "shift_x", "shift_y", "mouth_open", "gaze", "eye_opening")
"""Parameters that change from frame to frame."""
CALM = {"smile": 0.2, "glasses": 0.0, "hat": 0.0, "noise": 0.0, "blur": 0.0, "background": 0.0, "scale": 1.15}


def perform(person: int, frames: int, take: int = 0, seed: int = 0) -> Tensor:
    """The parameters of a clip.

    Args:
        person: identity of the avatar; without glasses and hat, before a plain wall.
        frames: number of frames T, at 25 per second.
        take: number of the clip; another take is another motion.
        seed: seed of the population.

    Returns:
        float32 [T, P]. A longer clip begins with the shorter one.

    Example:
        >>> one, other = perform(3, 50), perform(4, 50)
        >>> yaw = SCHEMA.index("yaw")
        >>> torch.equal(one[:, yaw], other[:, yaw]), bool(one[:, yaw].std() > 0.01)
        (True, True)
    """
    u: Tensor = draw_parameters(torch.tensor([person]), torch.tensor([0]), seed)[0]
    for name, value in CALM.items():
        u[SCHEMA.index(name)] = value
    u = u.repeat(frames, 1)
    t = torch.arange(frames, dtype=torch.float64) / FRAME_RATE
    motion = _motion(t, Draws(torch.tensor([take]), seed))
    eyes = motion.pop("eyes")
    for name, course in motion.items():
        u[:, SCHEMA.index(name)] = course.float()
    u[:, SCHEMA.index("eye_opening")] *= eyes.float()
    return u


def _motion(t: Tensor, draw: Draws) -> dict[str, Tensor]:
    """Pose at times t [T] in seconds; ``eyes`` is the share by which they are open."""

    def one(low: float, high: float) -> float:
        return float(draw.uniform(low, high))

    def sway(slowest: float, fastest: float) -> Tensor:
        """A sum of three sines in [-1, 1]; frequencies in Hz."""
        waves = [torch.sin(2 * math.pi * (one(slowest, fastest) * t + one(0, 1))) for _ in range(3)]
        total: Tensor = 0.5 * waves[0] + 0.3 * waves[1] + 0.2 * waves[2]
        return total

    turn, nod = sway(0.15, 0.5), sway(0.1, 0.4)
    syllables = torch.sin(2 * math.pi * (one(2.5, 4) * t + one(0, 1) + 0.3 * sway(0.3, 0.8))).clamp(min=0)
    speaks = ((sway(0.1, 0.3) + 0.25) * 4).clamp(0, 1)
    steps = torch.sin(2 * math.pi * (one(0.2, 0.4) * t + one(0, 1))) + 0.6 * sway(0.2, 0.5)
    every, first = one(1.8, 3.2), one(0, 1)
    since = ((t / every + first) % 1.0) * every  # seconds since the last blink
    closed = (1 - ((since - 0.12) / 0.12).abs()).clamp(min=0)
    return {
        "yaw": 1.25 * TURN * turn.clamp(-0.8, 0.8),
        "tilt": 0.08 * sway(0.1, 0.4),
        "shift_x": 0.06 * turn + 0.02 * sway(0.1, 0.3),
        "shift_y": 0.04 * nod,
        "mouth_open": 0.9 * syllables * speaks,
        "gaze": LOOK * torch.tanh(3 * steps),  # quick from side to side
        "eyes": 1 - 0.92 * closed,
    }
