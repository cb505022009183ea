"""Regular polygons, the toy of tied output synthesis (Wolf, Taigman, Polyak, 2017): flat shapes and photos.

`render` is the engine: a plain shape on white, a pure function of u. `render_photo` draws the same shape as a camera
might see it (outline, stripes, gradient, blur, noise), which is the source domain; what it adds is a pure function of
(seed, index). Neither depends on the batch: see `xdomain.engines.digits`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.drawing import Draws, blend, blur, pixels, plane
from xdomain.engines.engine import Engine
from xdomain.engines.schema import Parameter, Schema

VERSION = 2
"""Increase it when any picture changes: data drawn by another version are drawn again."""

VERTICES = (3, 4, 5, 6)
SCHEMA = Schema(
    [
        Parameter("vertices", "choice", values=tuple(str(n) for n in VERTICES), group="shape"),
        Parameter("radius", "continuous", 0.35, 0.7, group="shape"),  # of the circumscribed circle
        Parameter(  # of a vertex against the x axis
            "rotation", "periodic", 0.0, 2 * math.pi, group="shape", symmetry=("vertices", VERTICES)
        ),
        Parameter("x", "continuous", -0.25, 0.25, group="place"),
        Parameter("y", "continuous", -0.25, 0.25, group="place"),
        Parameter("red", "continuous", 0.0, 0.8, group="fill"),  # never as bright as the ground
        Parameter("green", "continuous", 0.0, 0.8, group="fill"),
        Parameter("blue", "continuous", 0.0, 0.8, group="fill"),
    ]
)
"""The parameters. Lengths: the picture spans [-1, 1] in both directions, y points down; colours are in [0, 1]."""

SUPERSAMPLING = 4


def draw_parameters(indices: Tensor, seed: int) -> Tensor:
    """Uniform parameters u, float32 [n, 8]; row i is a pure function of (seed, indices[i])."""
    return SCHEMA.draw(Draws(indices, seed))


def render(u: Tensor, size: int = 64) -> Tensor:
    """Draws flat polygons on white: parameters u [n, 8] -> uint8 [n, 3, size, size], RGB."""
    inside = _coverage(_depth(u, size * SUPERSAMPLING))
    return _to_bytes(1 + (pixels(_fill(u)) - 1) * inside)


def render_photo(u: Tensor, indices: Tensor, seed: int, size: int = 64) -> Tensor:
    """Draws polygons like photos by a camera.

    Args:
        u: parameters of the shapes [n, 8].
        indices: int64 [n]; with the seed they determine everything that u does not.
        seed: stream of the nuisances.
        size: side of the square images in pixels.

    Returns:
        uint8 [n, 3, size, size], RGB.
    """
    draw = Draws(indices, seed)
    x, _ = plane(draw, size, angle=math.pi)
    picture = blend(pixels(draw.uniform(0.35, 1.0, 3)), pixels(draw.uniform(0.35, 1.0, 3)), (x * 0.35 + 0.5))
    x, _ = plane(draw, size, angle=math.pi)
    phase = x * pixels(draw.uniform(3.0, 7.0))
    stripes = (phase - phase.round()).abs() * 4 - 1  # a triangular wave in [-1, 1]
    fill = pixels(_fill(u)) + stripes * pixels(draw.uniform(0.0, 0.1))
    line = pixels(_fill(u) * draw.uniform(0.1, 1.0)[:, None])  # at 1 there is no outline
    depth = _depth(u, size * SUPERSAMPLING)
    picture = blend(picture, line, _coverage(depth))
    picture = blend(picture, fill, _coverage(depth - pixels(draw.uniform(0.02, 0.06))))
    picture = blur(picture, draw.uniform(0.2, 0.9) * size / 32)
    return _to_bytes(picture + pixels(draw.uniform(0.0, 0.04)) * draw.noise(3, size, size))


def _fill(u: Tensor) -> Tensor:
    first = SCHEMA.index("red")
    return u[:, first : first + 3]


def _depth(u: Tensor, size: int) -> Tensor:
    """Distance of the pixels to the nearest edge, positive inside, exact there: float32 [n, 1, size, size]."""
    kind, radius, rotation, x, y = (u[:, SCHEMA.index(name)].double() for name in SCHEMA.names[:5])
    vertices = torch.tensor(VERTICES, dtype=torch.float64, device=u.device)[kind.round().long()]
    axis = (2 * torch.arange(size, dtype=torch.float32, device=u.device) + 1) / size - 1
    across, down = axis.view(1, 1, 1, -1) - pixels(x), axis.view(1, 1, -1, 1) - pixels(y)
    apothem = radius * (math.pi / vertices).cos()
    depth = torch.full((len(u), 1, size, size), math.inf, device=u.device)
    for edge in range(max(VERTICES)):  # a triangle goes round twice
        angle = rotation + math.pi * (2 * edge + 1) / vertices
        outwards = across * pixels(angle.cos()) + down * pixels(angle.sin())
        depth = torch.minimum(depth, pixels(apothem) - outwards)
    return depth


def _coverage(depth: Tensor) -> Tensor:
    """Share of every pixel that lies deeper than 0, from the depth at the finer grid: [n, 1, size, size]."""
    fine = (depth * (depth.shape[-1] / 2) + 0.5).clamp(0, 1)
    return F.avg_pool2d(fine, SUPERSAMPLING)


def _to_bytes(picture: Tensor) -> Tensor:
    return (picture * 255).round().clamp(0, 255).byte()


class Polygons(Engine):
    """Flat regular polygons on white, RGB."""

    name, channels, schema, version = "polygons", 3, SCHEMA, VERSION

    def sample(self, indices: Tensor, seed: int) -> Tensor:
        return draw_parameters(indices, seed)

    def render(self, u: Tensor, size: int) -> Tensor:
        return render(u, size)
