"""A loss of the parameters of an engine."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def l_parameters(raw: Tensor, truth: Tensor, layout: Sequence[tuple[str, int]]) -> Tensor:
    """How far what a network says of an engine's parameters is from the true ones.

    The mean over the parameters of: cross-entropy of a choice over the logarithm of its number of values; squared error
    of a continuous value over its variance 1/12; 1 - cos of the error of an angle. A network that knows nothing but
    their uniform distribution has a loss of about 1.

    Args:
        raw: outputs of a network before :func:`xdomain.networks.parameters.activated`, float [N, U].
        truth: one-hot vectors of the true parameters, float [N, U].
        layout: kind and number of columns of every parameter, see :class:`xdomain.engines.Schema`.

    Returns:
        scalar, at least 0.
    """
    sizes = [size for _, size in layout]
    parts = zip(layout, torch.split(raw.float(), sizes, 1), torch.split(truth, sizes, 1), strict=True)
    losses = []
    for (kind, size), said, true in parts:
        if kind == "choice":
            losses.append(F.cross_entropy(said, true) / math.log(max(size, 2)))
        elif kind == "periodic":
            losses.append(1 - F.cosine_similarity(said, true).mean())
        else:
            losses.append(12 * F.mse_loss(said.sigmoid(), true))
    return torch.stack(losses).mean()
