"""AttGAN."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.batch import Batch
from xdomain.methods.editor import CriticEditor, NetworkFactory
from xdomain.networks import AttGANDiscriminator, AttGANGenerator


class AttGAN(CriticEditor):
    """An auto-encoder whose decoder gets the wanted attributes, kept right by a classifier and real by a critic.

    He, Zuo, Kan, Shan, Chen, "AttGAN: Facial Attribute Editing by Only Changing What You Want", TIP 2019. Every batch
    trains D, and every ``critic_updates + 1``-th trains G instead.

    Args:
        generator: makes G from (channels, image size, number of attributes); it has ``encode`` and ``decode``.
        discriminator: see :class:`xdomain.methods.editor.CriticEditor`.
        classification: weight of the classification of edited images.
        reconstruction: weight of the L1 distance of an image to itself, edited to its own attributes.
        options: see :class:`xdomain.methods.editor.CriticEditor`.
    """

    G: AttGANGenerator

    def __init__(
        self,
        generator: NetworkFactory = AttGANGenerator,
        discriminator: NetworkFactory = AttGANDiscriminator,
        classification: float = 10.0,
        reconstruction: float = 100.0,
        **options: Any,
    ) -> None:
        super().__init__(generator=generator, discriminator=discriminator, **options)
        self.weights |= {"l_wanted": classification, "l_reconstruction": reconstruction}

    def label(self, own: Tensor, target: Tensor) -> Tensor:
        """The target attributes, as -0.5 and 0.5."""
        return target - 0.5

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, own, target = self.sampled(batch["a"])
        if (self.trainer.global_step + 1) % (self.critic_updates + 1):
            with torch.no_grad():
                edited = self.G(x, self.label(own, target))
            self.log("l_d", self.step("d", lambda: self.d_loss(x, edited, own)), prog_bar=True)
            return

        def g_loss() -> Tensor:
            maps = self.G.encode(x)  # one pass serves both decodings
            scores, logits = self.D(self.G.decode(maps, self.label(own, target)))
            losses = {
                "l_gan": -scores.mean(),
                "l_wanted": self.l_attributes(logits, target),
                "l_reconstruction": F.l1_loss(self.G.decode(maps, self.label(own, own)), x),
            }
            return self.summed(losses, self.weights)

        self.log("l_g", self.step("g", g_loss), prog_bar=True)
