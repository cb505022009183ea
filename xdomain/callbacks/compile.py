"""torch.compile for the networks of a method."""

import pytorch_lightning as pl
import torch

from xdomain.callbacks.networks import called_networks

VARIANTS = 128
"""Compiled variants that torch may keep. All compiled modules share them, and torch's 8 are too few for a pyramid:
every network needs one with gradients, one without and one for when it is frozen."""


class CompileNetworks(pl.Callback):
    """Compiles every network of the method in place when training starts; checkpoints keep their keys.

    It compiles the modules that the method calls, including each module of a list. Gradient penalties use the
    uncompiled networks, since torch.compile does not support second-order gradients.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
        for network in called_networks(pl_module):
            network.compile()
