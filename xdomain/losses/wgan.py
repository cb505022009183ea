"""The losses of Wasserstein GANs with gradient penalty, on maps of patch scores."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, per_image: bool = False) -> Tensor:
    """Gradient penalty: deviation of D's gradient norm from 1 at interpolations of real and fake images.

    Gulrajani et al. 2017, (3), as computed by SinGAN and its successors: one random number for the whole batch, the
    gradient of the sum of all scores, its norm over the channels at every position, mean over the positions. With
    ``per_image`` as in the paper: a random number and a norm, over all channels and pixels, for every image.

    Always in float32: under mixed precision D runs without autocast here, since gradient norms need more than 8 bits. A
    compiled D runs uncompiled, since torch.compile does not support second-order gradients.

    Args:
        D: maps images to a map of scores.
        real: [N, C, ...], or [1, C, ...] for all of ``fake``.
        fake: [N, C, ...]; gets no gradient.
        per_image: see above.

    Returns:
        scalar, without its weight.
    """
    u = torch.rand((len(fake), *[1] * (fake.ndim - 1)) if per_image else (), device=real.device)
    fake, real = (images.to(torch.promote_types(images.dtype, torch.float32)) for images in (fake.detach(), real))
    between = torch.lerp(fake, real, u.to(real)).requires_grad_()
    with torch.autocast(real.device.type, enabled=False), torch.compiler.set_stance("force_eager"):
        (gradient,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
        penalty: Tensor = ((gradient.flatten(1) if per_image else gradient).norm(dim=1) - 1).square().mean()
    return penalty


def l_critic(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, penalty: float = 0.1) -> Tensor:
    """Loss of a patch critic: mean score of fake minus mean score of real, plus the gradient penalty.

    Args:
        D: maps images to a map of scores.
        real: real images [N, C, ...].
        fake: generated images [N, C, ...], detached.
        penalty: weight of :func:`gradient_penalty`.

    Returns:
        scalar.
    """
    return D(fake).mean() - D(real).mean() + penalty * gradient_penalty(D, real, fake)
