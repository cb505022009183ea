"""Scores of blocks of a code, such as common and separate: free rotation inside of a block costs nothing."""

from collections.abc import Sequence

import numpy as np

from xdomain.metrics.disentanglement.inputs import Array


def moved(codes: Array, changed: Array, donors: Array) -> float:
    """How much of a code an intervention moves: 0 nothing, 1 as much as exchanging everything.

    The mean squared distance between codes before and after giving images one factor of a donor, divided by that
    between images and donors. For independent factors this is the total-effect index of Sobol', estimated as by Jansen,
    "Analysis of variance designs for model output", Computer Physics Communications 1999, and summed over dimensions.
    The indices of an additive code add up to 1.

    Args:
        codes: codes [N, D] of images.
        changed: of the same images with one factor from the donors.
        donors: of the donors themselves.

    Returns:
        At least 0; NaN for a code that is the same for all.
    """
    whole = np.square(codes - donors).sum()
    return float(np.square(codes - changed).sum() / whole) if whole > 0 else float("nan")


def block_importance(importance: Array, sizes: Sequence[int]) -> Array:
    """Importances [B, K] of blocks, from those of dimensions [D, K] in the order of blocks of these sizes.

    :func:`xdomain.metrics.disentanglement.completeness` of it says whether each factor stands in one block: 1 if it
    does, 0 if all blocks are equal. Since a block may serve several factors, ``disentanglement`` takes
    :func:`group_importance` of it.
    """
    if sum(sizes) != len(importance):
        raise ValueError(f"blocks of {list(sizes)} dimensions are not the {len(importance)} of the importances")
    return np.stack([block.sum(0) for block in np.split(importance, np.cumsum(sizes)[:-1])])


def group_importance(importance: Array, groups: Sequence[int]) -> Array:
    """Importances [B, G] of groups of factors: means of those of the factors, [B, K], whose groups are given, [K].

    :func:`xdomain.metrics.disentanglement.disentanglement` of it says whether each block serves a single group.
    """
    found = [importance[:, np.array(groups) == group].mean(1) for group in sorted(set(groups))]
    return np.stack(found, 1)


def block_gap(scores: Array, belongs: Sequence[int]) -> float:
    """How far the block that should hold a factor is ahead of the best other one.

    The idea of the mutual information gap, for blocks and with a sign.

    Args:
        scores: how well every factor can be read from every block, [B, K], 0 for chance and 1 for all that can be read.
        belongs: the block of each factor, [K].

    Returns:
        Mean over factors, in [-1, 1]: 1 if every factor is where it belongs and nowhere else, 0 if blocks are equal.
    """
    gaps = []
    for k, block in enumerate(belongs):
        gaps.append(scores[block, k] - np.delete(scores[:, k], block).max())
    return float(np.mean(gaps))
