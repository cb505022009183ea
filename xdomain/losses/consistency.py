"""Agreement of a classifier's answers on several views of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def jensen_shannon(logits: Sequence[Tensor]) -> Tensor:
    """Jensen-Shannon divergence between the answers on V views, equation 4 of AugMix (Hendrycks et al., ICLR 2020).

    JS = (KL(p_1 || m) + ... + KL(p_V || m)) / V with m = (p_1 + ... + p_V) / V, clamped to [1e-7, 1] as in the authors'
    code; mean over the batch, in nats.

    Args:
        logits: V tensors [N, K].

    Returns:
        scalar in [0, log V].
    """
    answers = torch.stack([F.log_softmax(view.float(), 1) for view in logits])
    probabilities = answers.exp()
    mixture = probabilities.mean(0).clamp(1e-7, 1).log()
    return (probabilities * (answers - mixture)).sum(2).mean()
