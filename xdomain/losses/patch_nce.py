"""The contrastive loss of CUT between the patches of an image and of its translation."""

import torch
from torch import Tensor
from torch.nn import functional as F


def patch_nce(queries: Tensor, keys: Tensor, temperature: float = 0.07) -> Tensor:
    """Cross-entropy of finding, among all patches of an image, the one at the place of the query.

    Park, Efros, Zhang, Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, (3) and (4).

    Args:
        queries: features of the translations' patches, [N, S, D] of unit length.
        keys: features of the images' patches at the same S places, likewise; no gradient reaches them.
        temperature: divides the similarities.

    Returns:
        scalar, the mean over patches: log S where all features are equal.
    """
    logits = queries @ keys.detach().transpose(1, 2) / temperature  # the negatives are of the same image
    places = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    return F.cross_entropy(logits.flatten(0, 1).float(), places.flatten())
