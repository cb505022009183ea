"""Nearest-neighbour fields between feature maps: PatchMatch, upsampling, and the mean of what overlapping patches say.

A field, int64 [N, 2, H, W], holds for every position of one grid the row and column of a position of another one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

JUMPS = (8, 4, 2, 1)
NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))
STAYING = 1e-4  # what a match must gain: on flat ground, where all patches are alike, a field keeps its order


def identity_field(size: Sequence[int], other: Sequence[int], count: int = 1) -> Tensor:
    """A field [count, 2, H, W] from a grid of one size to the positions at the same place in a grid of another."""
    rows, columns = ((2 * torch.arange(n) + 1) * m // (2 * n) for n, m in zip(size, other, strict=True))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(count, -1, -1, -1).clone()


def patch_match(a: Tensor, b: Tensor, start: Tensor, radius: int, side: int = 3, iterations: int = 10) -> Tensor:
    """A field from the patches of a to those of b whose inner product with them is (nearly) the largest.

    PatchMatch (Barnes et al. 2009) for all positions at once: every iteration tries the matches of the neighbours at
    distances of 8, 4, 2 and 1, as in jump flooding, and random positions in windows around the match that halve from
    ``radius`` to 1. A match is replaced if the mean inner product over its patch gains more than 1e-4. Random numbers
    have the same seed in every call: equal maps have equal fields.

    Args:
        a: maps [N, C, H, W]; borders are replicated.
        b: maps [N, C, h, w].
        start: field [N, 2, H, W] from a to b.
        radius: largest distance of a random position from a match, in rows and in columns.
        side: height and width of the patches, odd.
        iterations: number of iterations.
    """
    size, other = a.shape[2:], b.shape[2:]
    sources, targets = (_patches(maps, side) for maps in (a, b))
    first = torch.arange(len(a), device=a.device).view(-1, 1, 1) * other[0] * other[1]
    most = torch.tensor(other, device=a.device).view(1, 2, 1, 1) - 1
    generator = torch.Generator().manual_seed(0)

    def similarity(field: Tensor, where: Tensor) -> Tensor:
        """Mean inner products of the patches of a at some positions and of their matches."""
        index = (first + field[:, 0] * other[1] + field[:, 1]).flatten()
        products: Tensor = sources[where].mul_(targets[index[where]]).sum(1)
        return products / side**2

    def improve(field: Tensor, best: Tensor, candidate: Tensor) -> Tensor:
        candidate = torch.minimum(candidate.clamp(min=0), most)
        where = (candidate != field).any(1).flatten().nonzero()[:, 0]
        found = similarity(candidate, where)
        gains = found > best[where] + STAYING
        where = where[gains]
        best[where] = found[gains]
        taken = torch.zeros_like(best, dtype=torch.bool)
        taken[where] = True
        return torch.where(taken.view(len(a), 1, *size), candidate, field)

    field = start
    best = similarity(field, torch.arange(len(sources), device=a.device))
    for _ in range(iterations):
        for jump in JUMPS:
            for row, column in NEIGHBOURS:
                field = improve(field, best, _of_neighbours(field, jump * row, jump * column))
        reach = radius
        while reach >= 1:
            away = torch.randint(-reach, reach + 1, field.shape, generator=generator).to(a.device)
            field = improve(field, best, field + away)
            reach //= 2
    return field


def _patches(maps: Tensor, side: int) -> Tensor:
    """Patches around all positions of maps [N, C, H, W], as rows [N H W, C side side]."""
    padded = F.pad(maps, [side // 2] * 4, mode="replicate")
    return F.unfold(padded, side).mT.flatten(0, 1).contiguous()


def _of_neighbours(field: Tensor, row: int, column: int) -> Tensor:
    """Where the matches of the neighbours at an offset send a position; beyond the border, its own match."""
    height, width = field.shape[2:]
    if abs(row) >= height or abs(column) >= width:
        return field
    here, there = _overlap(height, width, row, column)
    moved = field.clone()
    moved[..., *here] = field[..., *there] - field.new_tensor([row, column]).view(2, 1, 1)
    return moved


def _overlap(height: int, width: int, row: int, column: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of the positions whose neighbours at an offset exist, and of these neighbours."""
    here = slice(max(0, -row), min(height, height - row)), slice(max(0, -column), min(width, width - column))
    there = slice(max(0, row), min(height, height + row)), slice(max(0, column), min(width, width + column))
    return here, there


def upsample_field(field: Tensor, other: Sequence[int], size: Sequence[int], new_other: Sequence[int]) -> Tensor:
    """A field [N, 2, *size] between finer grids that sends every position where the coarse field sends its cell.

    Args:
        field: field [N, 2, H, W] to a grid of the size ``other``.
        other: height and width of that grid.
        size: height and width of the finer grid of the sources.
        new_other: height and width of the finer grid of the matches.
    """
    parts = []
    axes = [(torch.arange(n, device=field.device) * m) // n for n, m in zip(size, field.shape[2:], strict=True)]
    coarse = field[:, :, axes[0]][..., axes[1]]
    for axis, cells in enumerate(axes):
        ratio = new_other[axis] / other[axis]
        within = torch.arange(size[axis], device=field.device) - cells * (size[axis] / field.shape[2 + axis])
        place = coarse[:, axis] * ratio + (within[:, None] if axis == 0 else within)
        place = (place + 1e-3).floor()  # rounding may leave it a little below an integer
        parts.append(place.clamp(0, new_other[axis] - 1).long())
    return torch.stack(parts, 1)


def vote(field: Tensor, maps: Tensor, side: int = 3) -> Tensor:
    """What a field points to, averaged over the overlapping patches: every patch votes for all of its positions.

    Args:
        field: field [N, 2, H, W].
        maps: maps [N, C, h, w], of which the field holds positions.
        side: height and width of the patches, odd; 1 takes the matches themselves.

    Returns:
        maps [N, C, H, W]: the mean of the votes from within both grids.
    """
    height, width = field.shape[2:]
    most = [length - 1 for length in maps.shape[2:]]
    total, count = maps.new_zeros(len(maps), maps.shape[1], height, width), maps.new_zeros(len(maps), 1, height, width)
    reach = side // 2
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            if abs(row) >= height or abs(column) >= width:
                continue
            here, there = _overlap(height, width, -row, -column)  # patches around `there` show `here` at this offset
            rows, columns = field[:, 0, *there] + row, field[:, 1, *there] + column
            valid = (rows >= 0) & (rows <= most[0]) & (columns >= 0) & (columns <= most[1])
            index = rows.clamp(0, most[0]) * maps.shape[3] + columns.clamp(0, most[1])
            found = maps.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, maps.shape[1], -1))
            total[..., *here] += found.view(*found.shape[:2], *index.shape[1:]) * valid[:, None]
            count[..., *here] += valid[:, None]
    return total / count.clamp(min=1)
