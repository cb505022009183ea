"""torch.compile for the networks of a method."""

import pytorch_lightning as pl
from torch import nn


class CompileNetworks(pl.Callback):
    """Compiles every network of the method in place when training starts; checkpoints keep their keys.

    Args:
        networks: attributes of the method to compile; None compiles all.
    """

    def __init__(self, networks: list[str] | None = None) -> None:
        self.networks = networks

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, network in pl_module.named_children():
            if isinstance(network, nn.Module) and (self.networks is None or name in self.networks):
                network.compile()
