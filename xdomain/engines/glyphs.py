"""Digits of one stroke font whose shape is set by six numbers: the engine that answers which digit a photo shows.

The skeletons are the first forms of `xdomain.engines.strokes`. Pictures do not depend on the batch: see
`xdomain.engines.digits`.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.drawing import Draws, blend, pixels
from xdomain.engines.engine import Engine
from xdomain.engines.schema import Parameter, Schema
from xdomain.engines.strokes import FORMS, Points

VERSION = 1
"""Increase it when any picture changes: data drawn by another version are drawn again."""

SCHEMA = Schema(
    [
        Parameter("digit", "choice", values=tuple("0123456789")),
        Parameter("slant", "continuous", -0.2, 0.4),  # x per height, positive to the right
        Parameter("thickness", "continuous", 0.1, 0.25),  # of the pen
        Parameter("scale", "continuous", 0.5, 0.75),  # half the height of the skeleton
        Parameter("x", "continuous", -0.1, 0.1),
        Parameter("y", "continuous", -0.1, 0.1),
    ]
)
"""The parameters. Lengths: the picture spans [-1, 1] in both directions, y points down."""

SUPERSAMPLING = 2
TOLERANCE = 0.01  # largest distance of the skeleton to its chain of segments, as a share of half the height
CASTS = (
    (0.9, 0.2, 0.2),
    (0.9, 0.5, 0.1),
    (0.8, 0.8, 0.1),
    (0.4, 0.8, 0.1),
    (0.1, 0.8, 0.4),
    (0.1, 0.7, 0.8),
    (0.1, 0.3, 0.9),
    (0.4, 0.1, 0.9),
    (0.8, 0.1, 0.8),
    (0.1, 0.1, 0.1),
)
"""Colour of the light for each digit: nine hues and the dark."""
CHUNK = 256  # images drawn at a time: bounds the memory


def draw_parameters(indices: Tensor, seed: int) -> Tensor:
    """Uniform parameters u, float32 [n, 6]; row i is a pure function of (seed, indices[i])."""
    return SCHEMA.draw(Draws(indices, seed))


def render(u: Tensor, size: int = 32) -> Tensor:
    """Draws white digits on black: parameters u [n, 6] -> uint8 [n, 1, size, size]."""
    images = torch.empty(len(u), 1, size, size, dtype=torch.uint8, device=u.device)
    for start in range(0, len(u), CHUNK):
        images[start : start + CHUNK] = _render(u[start : start + CHUNK], size)
    return images


def render_cast(u: Tensor, indices: Tensor, seed: int, size: int = 32, correlation: float = 0.95) -> Tensor:
    """Draws light digits on a darker ground, both grey with some noise, in coloured light.

    Args:
        u: parameters of the digits [n, 6].
        indices: int64 [n]; with the seed they determine everything that u does not.
        seed: stream of grounds, inks, noise and light.
        size: side of the square images in pixels.
        correlation: probability that the light has the colour of the digit in :data:`CASTS`; otherwise any of them.

    Returns:
        uint8 [n, 3, size, size], RGB.
    """
    draw = Draws(indices, seed)
    ground, contrast = draw.uniform(0.1, 0.5), draw.uniform(0.3, 0.5)
    digit, other = u[:, SCHEMA.index("digit")].round().long(), draw.integers(len(CASTS))
    light = torch.tensor(CASTS, device=u.device)[torch.where(draw.chance(correlation).bool(), digit, other)]
    grey = pixels(ground) + pixels(contrast) * (render(u, size) / 255) + 0.05 * draw.noise(1, size, size)
    return (blend(grey, pixels(light), pixels(draw.uniform(0.2, 0.4))) * 255).round().clamp(0, 255).byte()


def _render(u: Tensor, size: int) -> Tensor:
    digit, slant, thickness, scale, x, y = u.double().unbind(1)
    segments = _segments().to(u.device)[digit.round().long()]  # [n, segments, ends, x and y]
    ends_x = (segments[..., 0] - slant[:, None, None] * segments[..., 1]) * scale[:, None, None] + x[:, None, None]
    ends_y = segments[..., 1] * scale[:, None, None] + y[:, None, None]

    fine = size * SUPERSAMPLING
    axis = (2 * torch.arange(fine, dtype=torch.float32, device=u.device) + 1) / fine - 1
    across, down = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    squared = torch.full((len(u), 1, fine, fine), 9.0, device=u.device)
    for k in range(segments.shape[1]):
        (x0, x1), (y0, y1) = ends_x[:, k].unbind(1), ends_y[:, k].unbind(1)
        dx, dy = x1 - x0, y1 - y0
        length = (dx * dx + dy * dy).clamp(min=1e-12)
        from_x, from_y = across - pixels(x0), down - pixels(y0)
        along = (from_x * pixels(dx / length) + from_y * pixels(dy / length)).clamp(0, 1)
        from_x, from_y = from_x - along * pixels(dx), from_y - along * pixels(dy)
        squared = torch.minimum(squared, from_x * from_x + from_y * from_y)
    coverage = ((pixels(thickness / 2) - squared.sqrt()) * (fine / 2) + 0.5).clamp(0, 1)
    return (F.avg_pool2d(coverage, SUPERSAMPLING) * 255).round().byte()


@cache
def _segments() -> Tensor:
    """Skeletons of the ten digits as segments, float64 [10, segments, 2 ends, 2]; short ones repeat their last."""
    digits = []
    for forms in FORMS:
        chains = [_simplify(stroke) for stroke in forms[0]]
        digits.append(np.concatenate([np.stack([chain[:-1], chain[1:]], axis=1) for chain in chains]))
    longest = max(len(segments) for segments in digits)
    padded = [np.concatenate([s, np.repeat(s[-1:], longest - len(s), axis=0)]) for s in digits]
    return torch.from_numpy(np.stack(padded))


def _simplify(stroke: Points) -> Points:
    """Fewer points for the same line within TOLERANCE (Ramer 1972; Douglas and Peucker 1973)."""
    first, last = stroke[0], stroke[-1]
    chord, offset = last - first, stroke - first
    length = np.hypot(*chord)
    if length < TOLERANCE:  # a closed stroke has no chord
        distance = np.hypot(*offset.T)
    else:
        distance = np.abs(chord[0] * offset[:, 1] - chord[1] * offset[:, 0]) / length
    split = int(distance.argmax())
    if distance[split] <= TOLERANCE:
        return np.stack([first, last])
    return np.concatenate([_simplify(stroke[: split + 1])[:-1], _simplify(stroke[split:])])


class Glyphs(Engine):
    """White digits of one stroke font on black, grey: the parameter ``digit`` says which."""

    name, channels, schema, version, label = "glyphs", 1, SCHEMA, VERSION, "digit"

    def sample(self, indices: Tensor, seed: int) -> Tensor:
        return draw_parameters(indices, seed)

    def render(self, u: Tensor, size: int) -> Tensor:
        return render(u, size)
