"""Convolutions of clips as one 2D convolution against torch's 3D convolution, forwards and twice backwards.

    python benchmarks/conv3d.py

One to two clips of 7 frames through a critic of three layers, on one thread, in float32: its gradients and those of a
gradient penalty. Writes results/benchmarks/conv3d.json: milliseconds of both, by clips, rows and width. The 2D
convolution should win where `xdomain.networks.patches.Conv3d` takes it (one clip, at most 20,480 channels x frames x
rows) and lose in all other cases.
"""

import time

import torch
from common import median, report
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.losses import gradient_penalty

CASES = ((1, 24, 16), (1, 24, 64), (1, 72, 64), (2, 24, 16))  # clips, rows, width; the first two are for the 2D one
ROUNDS = 3


class Flat(nn.Conv3d):
    """The 2D convolution in all cases."""

    def forward(self, x: Tensor) -> Tensor:
        """Clips [N, C, T, H, W]."""
        x = F.pad(x.transpose(1, 2), (0, 0, 0, 0, 0, 0, 1, 1))
        frames = x.shape[1] - 2
        stacked = torch.cat([x[:, k : k + frames] for k in range(3)], 2)
        y = F.conv2d(stacked.flatten(0, 1), self.weight.transpose(1, 2).flatten(1, 2), self.bias, padding=1)
        return y.view(len(x), frames, *y.shape[1:]).transpose(1, 2)


def critic(convolution: type[nn.Conv3d], width: int) -> nn.Module:
    """Three layers."""
    layers = [convolution(i, o, 3, padding=1) for i, o in ((3, width), (width, width), (width, 1))]
    return nn.Sequential(layers[0], nn.LeakyReLU(0.2), layers[1], nn.LeakyReLU(0.2), layers[2])


def milliseconds(D: nn.Module, x: Tensor) -> float:
    """Of the loss of a critic and its gradients."""
    start = time.perf_counter()
    (D(x).mean() + gradient_penalty(D, x, x)).backward()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Alternate the two."""
    torch.set_num_threads(1)
    metrics = {}
    for clips, rows, width in CASES:
        x, nets = torch.randn(clips, 3, 7, rows, rows * 4 // 3), [critic(c, width) for c in (Flat, nn.Conv3d)]
        times = [[milliseconds(D, x) for D in nets] for _ in range(ROUNDS)]
        for i, word in enumerate(("2d", "3d")):
            metrics[f"ms_{word}/{clips}x{rows}x{width}"] = median([pair[i] for pair in times])
    report("conv3d", metrics, rounds=ROUNDS, frames=7)


if __name__ == "__main__":
    main()
