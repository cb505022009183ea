"""Memory layout of convolutions."""

import pytorch_lightning as pl
import torch
from torch import nn

from xdomain.callbacks.networks import called_networks

SLOWED = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


class ChannelsLast(pl.Callback):
    """Stores the weights of 2D convolutions, and so their feature maps, in the channels-last layout.

    Affects only speed: on CPUs it helps networks with few channels, most of all together with bfloat16. Networks with
    InstanceNorm would get slower, since torch computes it with the channels first: each such network of the method is
    left unchanged. So are networks for clips, whose feature maps have five dimensions.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for network in called_networks(pl_module):
            if not any(isinstance(module, SLOWED) for module in network.modules()):
                for weight in network.parameters():
                    if weight.ndim == 4:
                        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
