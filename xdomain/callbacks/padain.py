"""Permuted AdaIN in the networks of a method."""

import pytorch_lightning as pl

from xdomain.callbacks.networks import named_network
from xdomain.networks import insert_padain


class InsertPermutedAdaIN(pl.Callback):
    """Puts :class:`xdomain.networks.PermutedAdaIN` after every convolution of some networks while they are trained.

    Checkpoints are the same with and without it.

    Args:
        networks: attributes of the method, e.g. ``[network]``.
        p: probability that a layer permutes the statistics of a batch.
        adversarial: the first half of a batch takes the statistics of the second instead.
    """

    def __init__(self, networks: list[str], p: float = 0.01, adversarial: bool = False) -> None:
        self.networks, self.p, self.adversarial = networks, p, adversarial

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            for name in self.networks:
                insert_padain(named_network(self, pl_module, name), self.p, self.adversarial)
