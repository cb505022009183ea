"""Fine-grained adversarial alignment: a discriminator that tells domains apart class by class (Wang et al. 2020)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 1.8
"""Of the class probabilities, and of the segmentation loss beside them, in the authors' code."""
MOST = 0.9
"""The largest probability of a domain label in the authors' code."""


def class_evidence(logits: Tensor, temperature: float = TEMPERATURE, most: float = MOST) -> Tensor:
    """The class part of a domain label: how probable a segmentation network finds each class.

    Args:
        logits: [N, K, ...] of the segmentation network.
        temperature: divides the logits.
        most: larger probabilities are set to it; the others stay, so that the sum over classes may be below 1.

    Returns:
        [N, K, ...] in [0, most], without a graph.
    """
    return (logits.detach().float() / temperature).softmax(1).clamp(max=most)


def l_fine_grained(logits: Tensor, evidence: Tensor, domain: Literal["source", "target"]) -> Tensor:
    r"""Cross-entropy of a fine-grained discriminator with domain labels that also say the class.

    Wang, Shen, Zhang, Duan, Mei, "Classes Matter", ECCV 2020, equations 4 and 5:
    :math:`-\sum_{k} q_k \log p(d, k)`, mean over pixels, where p is a softmax over all 2K pairs of domain and class.
    With K = 1 it is the cross-entropy of a two-class domain discriminator.

    Args:
        logits: [N, 2K, ...]: "source of class k", then "target of class k".
        evidence: q [N, K, ...], see :func:`class_evidence`.
        domain: the half in which the label stands; the other one is 0.

    Returns:
        scalar; log 2K times the mean sum of q if the discriminator is undecided.
    """
    source, target = F.log_softmax(logits.float(), 1).chunk(2, 1)
    return -(evidence * (source if domain == "source" else target)).sum(1).mean()


def l_pixels(logits: Tensor, label_map: Tensor, unknown: int = 255) -> Tensor:
    """Cross-entropy of pixels whose class is known, mean over them; 0 without any.

    Args:
        logits: [N, K, H, W].
        label_map: classes, integers [N, H, W].
        unknown: the class of pixels that are left out.
    """
    total = F.cross_entropy(logits.float(), label_map.long(), ignore_index=unknown, reduction="sum")
    return total / torch.clamp((label_map != unknown).sum(), min=1)
