"""Memory layout of convolutions."""

import pytorch_lightning as pl
import torch
from torch import nn

from xdomain.callbacks.networks import called_networks

SLOWED = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


class ChannelsLast(pl.Callback):
    """Stores the weights of 2D convolutions with the channels last, and with them all maps that they make.

    A matter of speed alone: on CPUs it helps networks with few channels, and most of all together with bfloat16. It
    slows networks that hold an InstanceNorm, which torch computes with the channels first: those are left as they are,
    each network of the method by itself. Clips, whose maps have five dimensions, are left as they are too.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for network in called_networks(pl_module):
            if not any(isinstance(module, SLOWED) for module in network.modules()):
                for weight in network.parameters():
                    if weight.ndim == 4:
                        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
