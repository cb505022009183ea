"""4x4 convolutions of stride 2 that are matrix products where maps are small and weights are large."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSITIONS = 16
"""Largest number of pixels of the smaller map for which a product is faster."""


class HalvingConv(nn.Conv2d):
    """Halves maps [N, C, H, W] with a 4x4 kernel, equal to :class:`torch.nn.Conv2d`.

    oneDNN brings all weights into another order and back in every pass, which takes longer than the arithmetic if the
    weights are many and the pixels few. In training on a CPU in float32, maps of up to ``POSITIONS`` pixels are
    therefore a product of the patches and the weights as they lie in memory: up to three times as fast.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and _is_fast(x, 4 * POSITIONS)):
            return super().forward(x)
        matrix, taps_first, layout = _matrix(self.weight)
        count, channels, height, width = x.shape
        patches = F.unfold(x, 4, padding=1, stride=2).view(count, channels, 16, -1)
        rows = (patches.transpose(1, 2) if taps_first else patches).permute(0, 3, 1, 2).flatten(2)
        y = F.linear(rows, matrix, self.bias).view(count, height // 2, width // 2, -1)
        return y.permute(0, 3, 1, 2).contiguous(memory_format=layout)


class DoublingConv(nn.ConvTranspose2d):
    """Doubles maps [N, C, H, W] with a 4x4 kernel, equal to :class:`torch.nn.ConvTranspose2d`.

    Small maps are a product of matrices, as in :class:`HalvingConv`.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        bias: whether it has biases.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not (self.training and _is_fast(x, POSITIONS)):
            return super().forward(x, output_size)
        matrix, taps_first, layout = _matrix(self.weight)
        count, _, height, width = x.shape
        rows = x.flatten(2).transpose(1, 2) @ matrix
        patches = rows.view(count, height * width, *((16, -1) if taps_first else (-1, 16)))
        columns = (patches.transpose(2, 3) if taps_first else patches).permute(0, 2, 3, 1).flatten(1, 2)
        y = F.fold(columns, (2 * height, 2 * width), 4, padding=1, stride=2)
        y = y if self.bias is None else y + self.bias[:, None, None]
        return y.contiguous(memory_format=layout)


def _is_fast(x: Tensor, most: int) -> bool:
    """Whether maps [N, C, H, W] are small and computed in float32 on a CPU."""
    full = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and full and x.shape[2] * x.shape[3] <= most


def _matrix(weight: Tensor) -> tuple[Tensor, bool, torch.memory_format]:
    """A weight [A, B, 4, 4] as a matrix [A, 16 B] in the order of its memory.

    Returns:
        the matrix, whether the taps of the kernel come before the channels in its rows, and the weight's layout.
    """
    if weight.is_contiguous():
        return weight.flatten(1), False, torch.contiguous_format
    return weight.permute(0, 2, 3, 1).flatten(1), True, torch.channels_last
