"""The losses of the Domain Transfer Network, with its discriminator of three classes.

Taigman, Polyak, Wolf, "Unsupervised Cross-Domain Image Generation", ICLR 2017, equations 3 and 4. All are means over
the batch; distances are also means over dimensions or pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FAKE_A, FAKE_B, REAL_B = 0, 1, 2
"""Classes of the discriminator: G of a source image, G of a target image, a real target image."""


def _nll(logits: Tensor, label: int) -> Tensor:
    return F.cross_entropy(logits, torch.full((len(logits),), label, device=logits.device))


def l_d(fake_a: Tensor, fake_b: Tensor | None, real_b: Tensor) -> Tensor:
    """L_D = -E log D_1(G(x_s)) - E log D_2(G(x_t)) - E log D_3(x_t), (3).

    Args:
        fake_a: logits [N, 3] of translated source images.
        fake_b: logits [N, 3] of translated target images, or None for the binary loss of section 3.
        real_b: logits [N, 3] of real target images.

    Returns:
        scalar; 3 log 3 if D is undecided.
    """
    loss = _nll(fake_a, FAKE_A) + _nll(real_b, REAL_B)
    return loss if fake_b is None else loss + _nll(fake_b, FAKE_B)


def l_gang(fake_a: Tensor, fake_b: Tensor | None) -> Tensor:
    """L_GANG = -E log D_3(G(x_s)) - E log D_3(G(x_t)), (4).

    Args:
        fake_a: logits [N, 3] of translated source images.
        fake_b: logits [N, 3] of translated target images, or None for the binary loss of section 3.

    Returns:
        scalar; 2 log 3 if D is undecided.
    """
    loss = _nll(fake_a, REAL_B)
    return loss if fake_b is None else loss + _nll(fake_b, REAL_B)
