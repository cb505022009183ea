"""Spectral normalisation in few passes over the weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

EPSILON = 1e-12  # as in torch
START = 15  # power iterations at the start, as in torch


def spectral_norm(layer: nn.Module) -> nn.Module:
    """Let a layer divide its weight by its largest singular value; see :class:`SpectralNorm`."""
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    assert isinstance(layer.weight, Tensor)
    return register_parametrization(layer, "weight", SpectralNorm(layer.weight, transposed))


class SpectralNorm(nn.Module):
    """Divides a weight W by an estimate of its largest singular value (Miyato et al. 2018): a parametrisation.

    Equal to ``torch.nn.utils.parametrizations.spectral_norm``, with the same names in a checkpoint: whenever the weight
    is used in training, one power iteration moves u and v closer to its first singular vectors. It takes fewer passes
    over the weight: the estimate u^T W v is the length of W^T u, which the iteration computes anyway, the gradient is
    a formula of its own, and the matrix of a transposed convolution is not copied. The weight gets no second-order
    gradients.

    Args:
        weight: weight of a layer, outputs first.
        transposed: whether its outputs are in the second dimension.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        with torch.no_grad():
            outputs = weight.shape[int(transposed)]
            u, v = (weight.new_empty(length).normal_() for length in (outputs, weight.numel() // outputs))
            self.register_buffer("_u", F.normalize(u, dim=0, eps=EPSILON))
            self.register_buffer("_v", F.normalize(v, dim=0, eps=EPSILON))
            for _ in range(START):
                self._iterate(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, divided; in training after a power iteration."""
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            sigma = self._iterate(weight) if self.training else torch.dot(self._u, self._times(weight, self._v))
        divided: Tensor
        if torch.is_grad_enabled() and weight.requires_grad:
            u, v = self._u.clone(), self._v.clone()  # another pass may change them before the backward pass
            divided = _Divided.apply(weight, sigma, *self._spread(weight, u, v))
        else:
            divided = weight / sigma
        return divided

    def _iterate(self, weight: Tensor) -> Tensor:
        """One power iteration; returns the estimate of the largest singular value."""
        self._u.copy_(F.normalize(self._times(weight, self._v), dim=0, eps=EPSILON))
        v = self._transposed_times(weight, self._u)
        self._v.copy_(F.normalize(v, dim=0, eps=EPSILON))
        length: Tensor = torch.linalg.vector_norm(v)
        return length

    def _times(self, weight: Tensor, v: Tensor) -> Tensor:
        """W v."""
        if self.transposed:
            return torch.bmm(weight.flatten(2), v.view(len(weight), -1, 1)).sum(0)[:, 0]
        return torch.mv(weight.flatten(1), v)

    def _transposed_times(self, weight: Tensor, u: Tensor) -> Tensor:
        """W^T u."""
        if self.transposed:
            return torch.matmul(u, weight.flatten(2)).flatten()
        return torch.mv(weight.flatten(1).t(), u)

    def _spread(self, weight: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """U and v with dimensions such that their product is u v^T in the shape of the weight."""
        rows, columns = [1] * weight.ndim, list(weight.shape)
        rows[int(self.transposed)], columns[int(self.transposed)] = -1, 1
        return u.view(rows), v.view(columns)


class _Divided(torch.autograd.Function):
    """W / s for s = u^T W v with constant u and v; its gradient is (G - <G, W / s> u v^T) / s."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        divided = weight / sigma
        ctx.save_for_backward(divided, sigma, u, v)
        return divided

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        divided, sigma, u, v = ctx.saved_tensors
        share = torch.dot(gradient.flatten(), divided.flatten())
        return torch.addcmul(gradient, -share * u, v).div_(sigma), None, None, None
