"""torch.compile for the networks of a method."""

import pytorch_lightning as pl
import torch

from xdomain.callbacks.networks import called_networks

VARIANTS = 128
"""Compiled variants that torch may keep. All compiled modules share them, and its own 8 do not reach for a pyramid:
every network needs one with gradients, one without and one for when it is frozen."""


class CompileNetworks(pl.Callback):
    """Compiles every network of the method in place when training starts; checkpoints keep their keys.

    What is compiled are the modules that the method calls: of a list of networks, each. Gradient penalties are not
    computed by what is compiled, since torch.compile knows no gradients of gradients.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
        for network in called_networks(pl_module):
            network.compile()
