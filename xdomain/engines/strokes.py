"""Digits drawn with a brush: skeletons of strokes, in the forms that house numbers have and fonts lack.

Painted, routed and welded numbers show a 1 without foot, an open 4, a crossed 7, a round or a straight 9. A *hand*
chooses one form of every digit, and its own proportions, slant, stroke width and small irregularities, once and for
all of its digits.
"""

from itertools import pairwise

import numpy as np

Points = np.ndarray
"""Points of one stroke [n, 2] as x, y; a digit spans about [-0.6, 0.6] x [-1, 1], y points down."""


def _line(*points: tuple[float, float]) -> Points:
    """Straight segments, cut finely enough that irregularities bend them."""
    corners = np.array(points)
    parts = [np.linspace(a, b, 8) for a, b in pairwise(corners)]
    return np.concatenate(parts)


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float) -> Points:
    """Part of an ellipse between two angles in degrees, 0 to the right, 90 downwards."""
    angle = np.radians(np.linspace(start, stop, 24))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def _join(*strokes: Points) -> Points:
    return np.concatenate(strokes)


FORMS: tuple[tuple[tuple[Points, ...], ...], ...] = (
    ((_arc(0, 0, 0.6, 1, 0, 360),), (_arc(0, 0, 0.45, 1, -80, 290),)),
    (
        (_line((0, -1), (0, 1)),),
        (_line((-0.35, -0.6), (0.0, -1), (0, 1)),),
        (_line((-0.5, -0.35), (0.1, -1), (0.1, 1)),),
    ),
    (
        (_join(_arc(0, -0.45, 0.55, 0.55, 190, 390), _line((0.45, -0.15), (-0.6, 1), (0.6, 1))),),
        (_join(_arc(0, -0.5, 0.5, 0.5, 200, 400), _line((0.3, 0), (-0.3, 0.8)), _arc(-0.2, 0.8, 0.25, 0.2, 150, 300)),
         _line((-0.1, 0.7), (0.2, 0.95), (0.6, 0.85))),
        (_join(_line((-0.55, -0.9), (0.4, -0.9)), _line((0.4, -0.9), (-0.55, 0.95), (0.6, 0.95))),),
    ),
    (
        (_arc(0, -0.5, 0.5, 0.5, 200, 450), _arc(0, 0.47, 0.58, 0.53, -90, 150)),
        (_join(_line((-0.5, -1), (0.5, -1), (-0.05, -0.25)), _arc(0, 0.37, 0.58, 0.63, -95, 140)),),
    ),
    (
        (_line((0.25, 1), (0.25, -1), (-0.6, 0.35), (0.6, 0.35)),),
        (_line((-0.4, -1), (-0.5, 0.15), (0.6, 0.15)), _line((0.35, -0.9), (0.3, 1))),
        (_line((-0.05, -1), (-0.55, 0.25), (0.6, 0.25)), _line((0.3, -0.35), (0.15, 1))),
    ),
    (
        (_join(_line((0.5, -1), (-0.4, -1), (-0.45, -0.15)), _arc(-0.02, 0.35, 0.58, 0.65, -135, 145)),),
        (_line((-0.4, -1), (0.55, -1)), _join(_line((-0.4, -1), (-0.4, -0.2)), _arc(0, 0.37, 0.5, 0.6, -130, 130))),
    ),
    (
        (_arc(0, 0.42, 0.55, 0.58, 0, 360), _arc(0.5, 0.42, 1.05, 1.42, 180, 265)),
        (_arc(0, 0.45, 0.5, 0.55, 0, 360), _line((0.25, -1), (-0.45, 0.25))),
    ),
    (
        (_line((-0.55, -1), (0.55, -1), (-0.15, 1)),),
        (_line((-0.55, -1), (0.5, -1), (-0.1, 1)), _line((-0.35, 0.05), (0.45, 0.0))),
        (_line((-0.55, -0.7), (-0.5, -1), (0.5, -1), (0.15, 1)), _line((-0.25, 0.1), (0.55, -0.05))),
    ),
    (
        (_arc(0, -0.5, 0.45, 0.5, 0, 360), _arc(0, 0.47, 0.58, 0.53, 0, 360)),
        (_join(_arc(0, -0.52, 0.42, 0.48, 60, -240), _arc(0, 0.48, 0.5, 0.52, -60, 240)),),
    ),
    (
        (_arc(0, -0.42, 0.55, 0.58, 0, 360), _arc(-0.5, -0.42, 1.05, 1.42, 0, 85)),
        (_arc(-0.05, -0.45, 0.5, 0.55, 0, 360), _line((0.45, -0.45), (0.4, 1))),
        (_arc(-0.05, -0.48, 0.45, 0.5, 0, 360),
         _join(_line((0.42, -0.5), (0.4, 0.4)), _arc(0, 0.45, 0.4, 0.5, 0, 140))),
    ),
)  # fmt: skip
"""The forms of every digit 0-9: each a set of strokes."""


def draw_hand(hand: int, height: int) -> list[np.ndarray]:
    """The ten digits of one hand.

    Args:
        hand: which hand; the result is a pure function of it.
        height: height of the ink in pixels.

    Returns:
        ten coverage maps, float64 [height, width] in [0, 1]; each as wide as its ink.
    """
    rng = np.random.default_rng([hand, 1913])
    weight, aspect, slant = rng.uniform(0.16, 0.5), rng.uniform(0.75, 1.2), rng.uniform(-0.15, 0.3)
    return [_draw(forms[rng.integers(len(forms))], weight, aspect, slant, height, rng) for forms in FORMS]


def _draw(
    form: tuple[Points, ...], weight: float, aspect: float, slant: float, height: int, rng: np.random.Generator
) -> np.ndarray:
    bend = rng.normal(0, 0.07, (2, 3))  # amplitude of three slow waves in x and y: no stroke is quite straight

    def place(points: Points) -> Points:
        phase = np.pi * (points[:, 1:] + 1) / 2 * np.arange(1, 4)
        x = points[:, 0] * aspect + np.sin(phase) @ bend[0]
        y = points[:, 1] + np.sin(np.pi * (points[:, :1] + 1) / 2 * np.arange(1, 4)) @ bend[1]
        return np.stack([x - slant * y, y], axis=1)

    strokes = [place(points) for points in form]
    ink = np.concatenate(strokes)
    low, high = ink.min(0) - weight / 2, ink.max(0) + weight / 2
    scale = height / (high[1] - low[1])
    width = max(1, round(scale * (high[0] - low[0])))
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1) / scale + low
    distance = np.min([_distance(grid, stroke) for stroke in strokes], axis=0)
    coverage: np.ndarray = np.clip((weight / 2 - distance) * scale + 0.5, 0, 1)
    return coverage


def _distance(grid: np.ndarray, stroke: Points) -> np.ndarray:
    """Distance of every pixel [h, w, 2] to a chain of segments [n, 2]."""
    a, b = stroke[:-1], stroke[1:]
    along = b - a
    length = np.maximum((along**2).sum(1), 1e-12)
    t = np.clip(((grid[..., None, :] - a) * along).sum(-1) / length, 0, 1)
    nearest: np.ndarray = np.linalg.norm(grid[..., None, :] - (a + t[..., None] * along), axis=-1).min(-1)
    return nearest
