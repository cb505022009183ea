"""Memory layout of convolutions."""

import pytorch_lightning as pl
import torch


class ChannelsLast(pl.Callback):
    """Stores the weights of convolutions with the channels last, and with them all maps that they make.

    A matter of speed alone: on CPUs it helps networks with few channels, and most of all together with bfloat16.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.to(memory_format=torch.channels_last)
