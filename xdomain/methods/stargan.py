"""StarGAN."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from xdomain.batch import Batch
from xdomain.methods.editor import CriticEditor, NetworkFactory
from xdomain.networks import StarGANDiscriminator, StarGANGenerator


class StarGAN(CriticEditor):
    """CycleGAN with one generator for all attributes, which it gets as planes beside the image.

    Choi, Choi, Kim, Ha, Kim, Choo, "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image
    Translation", CVPR 2018. Every batch trains D, and every ``critic_updates``-th trains G as well.

    Args:
        generator: see :class:`xdomain.methods.editor.CriticEditor`.
        discriminator: likewise.
        classification: weight of the classification of edited images.
        cycle: weight of the L1 distance of an image to itself, edited there and back.
        options: see :class:`xdomain.methods.editor.CriticEditor`.
    """

    def __init__(
        self,
        generator: NetworkFactory = StarGANGenerator,
        discriminator: NetworkFactory = StarGANDiscriminator,
        classification: float = 1.0,
        cycle: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(generator=generator, discriminator=discriminator, **options)
        self.weights |= {"l_wanted": classification, "l_cycle": cycle}

    def label(self, own: Tensor, target: Tensor) -> Tensor:
        """The target attributes, as 0 and 1."""
        return target

    def l_attributes(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Binary cross-entropy of logits [N, K], summed over the attributes and averaged over the images."""
        return len(self.names) * super().l_attributes(logits, wanted)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, own, target = self.sampled(batch["a"])
        with self.updating("g"):
            edited = self.G(x, self.label(own, target))  # serves both updates
        self.log("l_d", self.step("d", lambda: self.d_loss(x, edited.detach(), own)), prog_bar=True)
        if (self.trainer.global_step + 1) % self.critic_updates:
            return

        def g_loss() -> Tensor:
            scores, logits = self.D(edited)
            losses = {
                "l_gan": -scores.mean(),
                "l_wanted": self.l_attributes(logits, target),
                "l_cycle": F.l1_loss(self.G(edited, self.label(target, own)), x),
            }
            return self.summed(losses, self.weights)

        self.log("l_g", self.step("g", g_loss), prog_bar=True)
