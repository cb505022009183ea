"""The adversarial loss of codes and features: are they from domain a or from domain b?"""

import torch
from torch import Tensor
from torch.nn import functional as F


def l_domain(logits_a: Tensor, logits_b: Tensor, label_a: float, label_b: float) -> Tensor:
    """Binary cross-entropy of d on the codes of two domains, the sum of both means.

    With two labels it is the loss of d. With the same label for both it is the loss of an encoder: d then assigns the
    codes of both domains to one domain or, at 0.5, cannot decide.

    Args:
        logits_a: logits of codes of domain a, any shape.
        logits_b: logits of codes of domain b, any shape.
        label_a: label of domain a, in [0, 1].
        label_b: label of domain b, in [0, 1].

    Returns:
        scalar; 2 log 2 if d is undecided.
    """
    losses = (
        F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
        for logits, label in ((logits_a, label_a), (logits_b, label_b))
    )
    return sum(losses, logits_a.new_zeros(()))
