"""Adversarial losses on maps of scores, of one scale or several."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Scores = Tensor | Sequence[Tensor]


def lsgan(scores: Scores, real: bool) -> Tensor:
    """Least squares: the mean of (score - 1)^2 of what should look real, of score^2 of what should not.

    Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017; summed over scales.

    Args:
        scores: of a discriminator without a sigmoid, any shape; several are scales.
        real: what the scores should say.

    Returns:
        scalar; 0.25 for each scale where the discriminator says 0.5 everywhere.
    """
    maps = [scores] if isinstance(scores, Tensor) else scores
    return torch.stack([(x - float(real)).square().mean() for x in maps]).sum()


def bce_gan(scores: Scores, real: bool) -> Tensor:
    """Binary cross-entropy of the original GAN (Goodfellow et al. 2014) on logits; summed over scales.

    Args:
        scores: logits, any shape; several are scales.
        real: what they should say.

    Returns:
        scalar; log 2 for each scale where the discriminator knows nothing.
    """
    maps = [scores] if isinstance(scores, Tensor) else scores
    return torch.stack([F.binary_cross_entropy_with_logits(x, torch.full_like(x, float(real))) for x in maps]).sum()
