"""Permuted adaptive instance normalisation.

Nuriel, Benaim, Wolf, "Permuted AdaIN: Reducing the Bias Towards Global Statistics in Image Classification", CVPR 2021.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xdomain.errors import UserError

EPS = 1e-5
SHORTCUTS = ("downsample", "shortcut", "skip", "transition")
"""Names of the modules whose 1x1 convolutions are off the main path: projections beside residual blocks, in
torchvision, timm and here, and the transitions between the blocks of a DenseNet, which the authors leave out, too."""


class PermutedAdaIN(nn.Module):
    """Gives every image of a batch the channel statistics of a random other one, now and then (pAdaIN).

    In training mode a call is active with probability ``p``; the images are then permuted at random, pi, and

        y_i = (x_i - mu_i) / (s_i + eps) * s_pi(i) + mu_pi(i),    s = sqrt(var + eps),    eps = 1e-5

    with the mean and the unbiased variance of every image and channel, in float32 at least (section 3). The statistics
    of x_i carry gradient, those of the donor x_pi(i) do not. The statistics of the batch hardly change, so a BatchNorm
    that follows sees what it would have seen. Evaluation mode changes nothing, and there is nothing to save.

    Whether and how is drawn from torch's generator of the CPU. The call is left out of graphs of torch.compile.

    Args:
        p: probability that a call is active; 0.01 in the paper.
        adversarial: instead of a permutation, the first half of the batch takes the statistics of the second, which
            stays as it is, as in the authors' code for domain adaptation (source first, target second).
    """

    def __init__(self, p: float = 0.01, adversarial: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UserError(f"PermutedAdaIN has p {p}: give a probability from 0 to 1.")
        self.p, self.adversarial = p, adversarial

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps [N, C, H, W], or of any other number of dimensions after the channels, to the same shape.

        A single image, and maps of a single pixel, which have no deviation, stay as they are.
        """
        return self._exchanged(x) if self.training and self.p > 0 else x

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _exchanged(self, x: Tensor) -> Tensor:
        if torch.rand(()) >= self.p or len(x) < 2 or x[0, 0].numel() < 2:
            return x
        if not self.adversarial:
            return exchange_statistics(x, torch.randperm(len(x)))
        half, odd = divmod(len(x), 2)
        if odd:
            raise UserError(f"adversarial PermutedAdaIN needs two halves, but a batch has {len(x)} images.")
        return torch.cat([exchange_statistics(x, torch.arange(len(x)).roll(half))[:half], x[half:]])

    def extra_repr(self) -> str:
        return f"p={self.p}" + (", adversarial=True" if self.adversarial else "")


def exchange_statistics(x: Tensor, order: Tensor) -> Tensor:
    """AdaIN with other images of the batch, see :class:`PermutedAdaIN`.

    Args:
        x: feature maps [N, C, ...] of at least two pixels.
        order: int64 [N]; image i takes the statistics of image ``order[i]``.

    Returns:
        shaped like x, in its type.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, tuple(range(2, x.ndim)), keepdim=True)
    deviation, order = (variance + EPS).sqrt(), order.to(x.device)
    donors_mean, donors_deviation = mean.detach()[order], deviation.detach()[order]
    return ((wide - mean) * (donors_deviation / (deviation + EPS)) + donors_mean).to(x.dtype)


def insert_padain(
    network: nn.Module, p: float = 0.01, adversarial: bool = False, without: Sequence[str] = SHORTCUTS
) -> list[str]:
    """Puts :class:`PermutedAdaIN` after every 2D convolution of a network's main path, before what follows it.

    Every convolution gets a layer of its own, called ``padain``, which has no weights: checkpoints load with and
    without it. Call it once more to change p.

    Args:
        network: any network, of torchvision, timm or one's own; changed in place.
        p: see :class:`PermutedAdaIN`.
        adversarial: see :class:`PermutedAdaIN`.
        without: names of modules whose 1x1 convolutions get none; a number at the end of a name does not count.

    Returns:
        names of the convolutions.

    Raises:
        UserError: if there is no convolution.

    Example:
        >>> from torchvision.models import resnet50
        >>> len(insert_padain(resnet50(), p=0.01))
        49
    """
    names = []
    for name, module in list(network.named_modules()):
        off_path = any(part.rstrip("0123456789") in without for part in name.split("."))
        if not isinstance(module, nn.Conv2d) or (off_path and max(module.kernel_size) == 1):
            continue
        if not isinstance(getattr(module, "padain", None), PermutedAdaIN):
            module.register_forward_hook(_through_padain)
        module.padain = PermutedAdaIN(p, adversarial).train(module.training)
        names.append(name)
    if not names:
        raise UserError(f"{type(network).__name__} has no 2D convolution that pAdaIN could follow.")
    return names


def _through_padain(convolution: nn.Module, _: Any, output: Tensor) -> Tensor:
    changed: Tensor = convolution.padain(output)  # type: ignore[operator]
    return changed
