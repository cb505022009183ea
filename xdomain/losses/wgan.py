"""The losses of Wasserstein GANs with a gradient penalty, on maps of scores of patches."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """How far the gradients of D are from unit length between real and fake images.

    Gulrajani et al. 2017, (3), as SinGAN and its successors compute it: one random number for the whole batch, the
    gradient of the sum of all scores, its length over the channels of every position, mean over the positions.

    Always in float32: in mixed precision D runs without autocast here, since lengths of gradients need more than 8
    bits. Where D is compiled, it runs as it was: torch.compile knows no gradients of gradients.

    Args:
        D: gives a map of scores of images.
        real: [N, C, ...], or [1, C, ...] for all of ``fake``.
        fake: [N, C, ...]; no gradient reaches it.

    Returns:
        scalar, without its weight.
    """
    u = torch.rand((), device=real.device)
    fake, real = (images.to(torch.promote_types(images.dtype, torch.float32)) for images in (fake.detach(), real))
    between = torch.lerp(fake, real, u).requires_grad_()
    with torch.autocast(real.device.type, enabled=False), torch.compiler.set_stance("force_eager"):
        (gradient,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
        penalty: Tensor = (gradient.norm(dim=1) - 1).square().mean()
    return penalty


def l_critic(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, penalty: float = 0.1) -> Tensor:
    """What a critic of patches minimises: mean score of fake minus mean score of real, plus the gradient penalty.

    Args:
        D: gives a map of scores of images.
        real: real images [N, C, ...].
        fake: generated images [N, C, ...], detached.
        penalty: weight of :func:`gradient_penalty`.

    Returns:
        scalar.
    """
    return D(fake).mean() - D(real).mean() + penalty * gradient_penalty(D, real, fake)
